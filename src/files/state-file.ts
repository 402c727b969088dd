// Small JSON files in the state directory, read and written while requests are served: opening must not block on a FIFO
// or device, and a write must not follow a link.
import {
  closeSync,
  fchownSync,
  fstatSync,
  fsyncSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { dirname } from "node:path";
import { KmsError } from "../errors.js";
import { makePrivateFolder } from "./private-folder.js";
import { ownerForNewFile, READ_AT_ONCE } from "./regular-file.js";

const MAX_BYTES = 1 << 20;

/**
 * Returns the parsed JSON, or throws NodeJS.ErrnoException (ENOENT), SyntaxError, or an Error if it is not a state
 * file.
 */
export function readStateFile(path: string): unknown {
  const file = openSync(path, READ_AT_ONCE);
  try {
    const stat = fstatSync(file);
    if (!stat.isFile() || stat.size > MAX_BYTES) throw new Error("is not a state file");
    return JSON.parse(readFileSync(file, "utf8"));
  } finally {
    closeSync(file);
  }
}

/**
 * Replaces the file atomically, so that it survives a loss of power. Creates its folder with mode 0700 if necessary,
 * and leaves no draft behind if the disk is full.
 * @param mode 0600, or more if the file holds nothing secret
 * @throws NodeJS.ErrnoException that names a path, unlike Node's errors of an open file
 */
export function writeStateFile(path: string, value: unknown, mode = 0o600): void {
  makePrivateFolder(dirname(path));
  const draft = `${path}.${process.pid}.new`;
  rmSync(draft, { force: true });
  // "wx" does not follow links.
  const file = openSync(draft, "wx", mode);
  try {
    try {
      giveToFolderOwner(file, path);
      writeFileSync(file, `${JSON.stringify(value, null, 2)}\n`);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(draft, path);
  } catch (error) {
    rmSync(draft, { force: true });
    throw withPath(error as NodeJS.ErrnoException, path);
  }
  syncFolder(dirname(path));
}

/** Replaces the file as `writeStateFile` does. @throws KmsError STATE_UNUSABLE that says what is wrong and how to fix it */
export function saveState(path: string, value: unknown): void {
  try {
    writeStateFile(path, value);
  } catch (error) {
    throw new KmsError("STATE_UNUSABLE", askToRepair(path, error), error);
  }
}

function withPath(error: NodeJS.ErrnoException, path: string): Error {
  if (error.path !== undefined) return error;
  error.message += ` '${path}'`;
  return Object.assign(error, { path });
}

/** Makes the renaming and removal of files in a folder survive a loss of power. @throws NodeJS.ErrnoException */
export function syncFolder(path: string): void {
  const folder = openSync(path, "r");
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}

/**
 * Gives a new file to the owner of its folder: what a command records as root, such as a refused PIN, must be readable for
 * the plugin, which runs as another user.
 */
export function giveToFolderOwner(file: number, path: string): void {
  const owner = ownerForNewFile(statSync(dirname(path)));
  if (owner !== undefined) fchownSync(file, owner.uid, owner.gid);
}

const REPAIRS: Readonly<Record<string, string>> = {
  ENOSPC: "free space on its file system",
  EDQUOT: "free space on its file system",
  EROFS: "mount its file system read-write",
  ENOTDIR: "set stateDir to a folder",
  EEXIST: "set stateDir to a folder",
};

/** Returns a message that says what is wrong with a state file and how to fix it. */
export function askToRepair(path: string, problem: unknown): string {
  const { code, message } = problem as NodeJS.ErrnoException;
  const user = String(process.geteuid?.() ?? "");
  if (code === "EACCES" || code === "EPERM") {
    return `user ${user} cannot write ${path} (${code}); run as root or as the plugin's user, or give it ${dirname(path)}`;
  }
  if (code !== undefined) {
    return `${path} cannot be written (${code}); ${REPAIRS[code] ?? `let user ${user} write there`}`;
  }
  return `${path} ${problem instanceof SyntaxError ? "is damaged" : message}; remove it once you know that the PIN is right`;
}
