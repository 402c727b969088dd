// Binds and removes a unix socket safely: only in a folder that nobody else can write to; a stale file is removed only
// after a connect to it was refused; no other user can connect before mode and group are set; and no other process's
// socket is removed.
import { randomBytes } from "node:crypto";
import { chmodSync, chownSync, linkSync, lstatSync, readFileSync, unlinkSync, type Stats } from "node:fs";
import type { Server } from "node:net";
import { basename, dirname, join } from "node:path";
import { KmsError } from "../errors.js";
import { withLock } from "../files/turn-lock.js";
import { listensThere, requireShortPath, safeFolder, unusable } from "./socket-path.js";

/** The address and the permissions of a socket. */
export interface SocketSettings {
  /** Path of the file, or name of an abstract socket without its leading NUL. */
  readonly path: string;
  readonly abstract: boolean;
  /** Permission bits of the file, such as 0o600. */
  readonly mode: number;
  /** Name or gid of the file's group. */
  readonly group?: string;
}

/** Returns a short description of the process that listens on a live socket. */
export type AskPeer = (path: string) => Promise<string>;

/** The file of a bound socket. */
export interface BoundSocket {
  /** Returns whether the file is still the one that was bound. */
  state(): "ours" | "another" | "gone";
  /** Removes the file, if it is still the one that was bound. */
  remove(): void;
}

/** Only the owner may connect until mode and group are set. */
const BIND_UMASK = 0o177;
/** Maximum number of connections that wait to be accepted; the kernel has a limit of its own. */
const BACKLOG = 4_096;
/** Random bytes in the temporary name: short, so that the path is not longer than with "kms.sock". */
const BOUND_NAME_BYTES = 3;

/**
 * Binds `server` to the socket.
 * @throws KmsError SOCKET_UNUSABLE, which says how to fix it
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
  // When it closes, Node removes the name that it has bound, even if the file is another process's by then. So a
  // temporary name is bound, and the file gets its real name by a link when mode and group are set; a link replaces no
  // file.
  const bound = join(dirname(path), `.${randomBytes(BOUND_NAME_BYTES).toString("hex")}`);
  requireShortPath(path, bound);
  const gid = settings.group === undefined ? undefined : gidOf(settings.group);
  // Without the lock, the slower of two processes that find the same stale socket would remove the socket that the
  // other has just bound: the kernel gives the inode number of a removed file to the next one.
  const live = await inTurn(path, async () => {
    if (!(await removeStale(path))) return true;
    await bindAndLink(server, settings, { path, bound, gid });
    return false;
  });
  if (live) {
    throw unusable(
      `${path} is in use: ${await ask(path)}; stop that process ('ss -xlp' shows its pid) or choose another socket`,
    );
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

/** Runs `work` while it holds the lock beside the socket. */
async function inTurn<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await withLock(join(dirname(path), `.${basename(path)}.lock`), work);
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
  // listen() creates the file before it returns.
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

/** Removes a socket that nobody listens on. Returns false if a process listens on it. */
async function removeStale(path: string): Promise<boolean> {
  if (await listensThere(path)) return false;
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found !== undefined) removeIfSame(path, found);
  return true;
}

function removeIfSame(path: string, known: Stats): void {
  const now = lstatSync(path, { throwIfNoEntry: false });
  if (now !== undefined && isSame(now, known)) unlinkSync(path);
}

function isSame(one: Stats, other: Stats): boolean {
  return one.dev === other.dev && one.ino === other.ino;
}

/** Returns a group's gid. @throws KmsError SOCKET_UNUSABLE for a group that is not in /etc/group */
function gidOf(group: string): number {
  if (/^\d+$/.test(group)) return Number(group);
  const lines = readFileSync("/etc/group", "utf8").split("\n");
  const gid = lines.find((line) => line.startsWith(`${group}:`))?.split(":")[2];
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
