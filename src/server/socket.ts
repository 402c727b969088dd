// The unix socket's life: a safe folder, a stale file removed only after a connect to it was refused, a bind
// that no other user can connect to even for a moment, and a removal that touches nobody else's socket.
import { randomBytes } from "node:crypto";
import {
  chmodSync,
  chownSync,
  linkSync,
  lstatSync,
  readFileSync,
  realpathSync,
  unlinkSync,
  type Stats,
} from "node:fs";
import { connect, type Server } from "node:net";
import { basename, dirname, join } from "node:path";
import { KmsError } from "../errors.js";
import { folderProblem } from "../files/ownership.js";
import { withLock } from "../files/turn-lock.js";

export interface SocketSettings {
  /** A file's path, or the name of an abstract socket without its leading NUL. */
  readonly path: string;
  readonly abstract: boolean;
  /** Permission bits of the file, such as 0o600. */
  readonly mode: number;
  /** Group name or gid that the file is given to. */
  readonly group?: string;
}

/** Asks what answers on a live socket, in a few words. */
export type AskPeer = (path: string) => Promise<string>;

export interface BoundSocket {
  /** Whether the file is still the one that was bound. */
  state(): "ours" | "another" | "gone";
  /** Removes the file, if it is still the one that was bound. */
  remove(): void;
}

/** sockaddr_un holds 108 bytes, the last a NUL (unix(7)). */
const MAX_PATH_BYTES = 107;
/** Nobody but the owner may connect until mode and group are set. */
const BIND_UMASK = 0o177;
/** Connections that wait to be accepted, beyond which a connect fails at once; the kernel knows a limit of its own. */
const BACKLOG = 4_096;
/** Longer than a lock that was left behind is respected. */
const LOCK_PATIENCE_MS = 15_000;
/** Of the name that is bound: short, so that it costs a path no more than "kms.sock" does. */
const BOUND_NAME_BYTES = 3;

/**
 * Binds `server` to the socket.
 * @throws KmsError SOCKET_UNUSABLE with what to do
 */
export async function bindSocket(
  server: Server,
  settings: SocketSettings,
  ask: AskPeer,
): Promise<BoundSocket> {
  if (settings.abstract) {
    await listen(server, `\0${settings.path}`, settings.path);
    return { state: () => "ours", remove: () => undefined };
  }
  const path = join(safeFolder(settings.path), basename(settings.path));
  // Node removes the name that it has bound when it closes, whoever has that name by then. So another name is
  // bound, and the socket is linked to its own once mode and group are right; a link replaces nothing.
  const bound = join(dirname(path), `.${randomBytes(BOUND_NAME_BYTES).toString("hex")}`);
  if (Math.max(Buffer.byteLength(path), Buffer.byteLength(bound)) > MAX_PATH_BYTES) {
    throw unusable(`${path}: a socket path has at most ${MAX_PATH_BYTES} bytes; choose a shorter one`);
  }
  const gid = settings.group === undefined ? undefined : gidOf(settings.group);
  // Of two that find the same stale socket, the slower one would otherwise remove what the other has just bound: the
  // kernel gives a removed file's inode number to the next one.
  const live = await inTurn(path, async () => {
    if (!(await removeStale(path))) return true;
    await bindAndLink(server, settings, { path, bound, gid });
    return false;
  });
  if (live) {
    throw unusable(`${path} is in use: ${await ask(path)}; stop that process or choose another socket`);
  }
  const ours = lstatSync(path);
  return {
    state: () => {
      const now = lstatSync(path, { throwIfNoEntry: false });
      if (now === undefined) return "gone";
      return isSame(now, ours) ? "ours" : "another";
    },
    remove: () => {
      removeIfSame(path, ours);
    },
  };
}

/** Holds the lock beside the socket. */
async function inTurn<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await withLock(join(dirname(path), `.${basename(path)}.lock`), LOCK_PATIENCE_MS, work);
  } catch (error) {
    if (error instanceof KmsError && error.code !== "OVERLOADED") throw error;
    throw unusable(
      `${path}: cannot listen: ${error instanceof Error ? error.message : String(error)}`,
      error,
    );
  }
}

interface Names {
  readonly path: string;
  readonly bound: string;
  readonly gid: number | undefined;
}

async function bindAndLink(
  server: Server,
  settings: SocketSettings,
  { path, bound, gid }: Names,
): Promise<void> {
  const umask = process.umask(BIND_UMASK);
  // The file is made inside listen(), before it returns.
  const listening = listen(server, bound, path);
  process.umask(umask);
  await listening;
  try {
    if (gid !== undefined) chownSync(bound, -1, gid);
    chmodSync(bound, settings.mode);
    linkSync(bound, path);
    unlinkSync(bound);
  } catch (error) {
    server.close();
    const { code, syscall } = error as NodeJS.ErrnoException;
    if (code === "EPERM" && syscall === "chown") throw notOurGroup(path, settings.group, error);
    throw unusable(`${path}: cannot listen: ${reasonOf(error as NodeJS.ErrnoException)}`, error);
  }
}

async function listen(server: Server, address: string, shown: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const fail = (error: NodeJS.ErrnoException): void => {
      reject(unusable(`${shown}: cannot listen: ${reasonOf(error)}`, error));
    };
    server.once("error", fail);
    server.listen({ path: address, backlog: BACKLOG }, () => {
      server.off("error", fail);
      resolve();
    });
  });
}

function reasonOf({ code, message }: NodeJS.ErrnoException): string {
  return code === "EADDRINUSE" || code === "EEXIST" ? "another process has just taken it" : message;
}

/** Returns the real path of the socket's folder, which nobody but its owner may write to. */
function safeFolder(path: string): string {
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

/** Returns false where a process answers. */
async function removeStale(path: string): Promise<boolean> {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found === undefined) return true;
  if (!found.isSocket()) throw unusable(`${path} exists and is no socket; it is left alone, move it away`);
  if (!(await isRefused(path))) return false;
  removeIfSame(path, found);
  return true;
}

/** Whether a connect is refused, which is what a socket file without a process behind it does. */
async function isRefused(path: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const probe = connect(path);
    probe.once("connect", () => {
      probe.destroy();
      resolve(false);
    });
    probe.once("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "ECONNREFUSED") resolve(true);
      // A full backlog belongs to a live process.
      else if (error.code === "EAGAIN") resolve(false);
      else if (error.code === "ENOENT") resolve(true);
      else reject(unusable(`${path} cannot be probed: ${error.message}`, error));
    });
  });
}

function removeIfSame(path: string, known: Stats): void {
  const now = lstatSync(path, { throwIfNoEntry: false });
  if (now !== undefined && isSame(now, known)) unlinkSync(path);
}

function isSame(one: Stats, other: Stats): boolean {
  return one.dev === other.dev && one.ino === other.ino;
}

/** @throws KmsError SOCKET_UNUSABLE for a group that /etc/group does not know */
function gidOf(group: string): number {
  if (/^\d+$/.test(group)) return Number(group);
  const line = readFileSync("/etc/group", "utf8")
    .split("\n")
    .find((one) => one.startsWith(`${group}:`));
  const gid = line?.split(":")[2];
  if (gid === undefined) {
    throw unusable(`socket.group: there is no group "${group}"; name one of /etc/group or a gid`);
  }
  return Number(gid);
}

function notOurGroup(path: string, group = "", cause: unknown): KmsError {
  const advice =
    "name a group of the plugin's user, or make it a member (SupplementaryGroups, supplementalGroups)";
  return unusable(`${path} cannot be given to group ${group} of socket.group (EPERM); ${advice}`, cause);
}

function unusable(message: string, cause?: unknown): KmsError {
  return new KmsError("SOCKET_UNUSABLE", message, cause);
}
