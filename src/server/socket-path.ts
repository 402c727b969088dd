// Checks the path of a unix socket before it is bound: its folder, its length, and whether a process listens on it. It
// changes nothing.
import { lstatSync, realpathSync, type Stats } from "node:fs";
import { connect } from "node:net";
import { dirname } from "node:path";
import { KmsError } from "../errors.js";
import { folderProblem } from "../files/ownership.js";

/** sockaddr_un holds 108 bytes, the last a NUL (unix(7)). */
const MAX_PATH_BYTES = 107;

/**
 * Returns the real path of the socket's folder, which nobody but its owner may write to.
 * @throws KmsError SOCKET_UNUSABLE
 */
export function safeFolder(path: string): string {
  const folder = dirname(path);
  let problem: string | undefined;
  try {
    problem = folderProblem(folder, { danger: "replace the socket" });
    if (problem === undefined) return realpathSync(folder);
  } catch (error) {
    throw unusable(`${folder} does not exist or cannot be entered; create it with mode 0700`, error);
  }
  throw unusable(problem);
}

/** @throws KmsError SOCKET_UNUSABLE if a path is too long for a socket's address; the message names the first one */
export function requireShortPath(...paths: readonly [string, ...string[]]): void {
  if (paths.every((path) => Buffer.byteLength(path) <= MAX_PATH_BYTES)) return;
  throw unusable(`${paths[0]}: a socket path has at most ${MAX_PATH_BYTES} bytes; choose a shorter one`);
}

/**
 * Returns whether a process listens on the socket.
 * @throws KmsError SOCKET_UNUSABLE if the path exists and is not a socket, or cannot be probed
 */
export async function listensThere(path: string): Promise<boolean> {
  let found: Stats | undefined;
  try {
    found = lstatSync(path, { throwIfNoEntry: false });
  } catch (error) {
    const { code = "unknown error" } = error as NodeJS.ErrnoException;
    throw unusable(
      `${dirname(path)} cannot be entered (${code}); let the plugin's user own it, mode 0700`,
      error,
    );
  }
  if (found === undefined) return false;
  if (!found.isSocket()) throw unusable(`${path} is not a socket; left untouched, move it first`);
  return !(await isRefused(path));
}

/** Returns whether a connect is refused, as it is if no process listens on the socket. */
async function isRefused(path: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const probe = connect(path);
    probe.once("connect", () => {
      probe.destroy();
      resolve(false);
    });
    probe.once("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "ECONNREFUSED" || error.code === "ENOENT") resolve(true);
      // A full backlog belongs to a live process.
      else if (error.code === "EAGAIN") resolve(false);
      else reject(unusable(`${path} cannot be probed: ${error.message}`, error));
    });
  });
}

/** Returns the error of a socket that cannot be bound; the message says how to fix it. */
export function unusable(message: string, cause?: unknown): KmsError {
  return new KmsError("SOCKET_UNUSABLE", message, cause);
}
