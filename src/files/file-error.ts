// Describes a file system error by the path, the user, and the folder that denies access, instead of by a system call
// and the name of a temporary file.
import { accessSync, constants, existsSync, lstatSync } from "node:fs";
import { userInfo } from "node:os";
import { dirname, resolve } from "node:path";
import { KmsError } from "../errors.js";

const REASONS: Readonly<Record<string, string>> = {
  EACCES: "permission denied",
  EPERM: "not permitted",
  EROFS: "the file system is mounted read-only",
  ENOSPC: "no space is left on the device",
  EDQUOT: "the disk quota is used up",
  EFBIG: "the file would exceed the largest size allowed (ulimit -f)",
  ENOENT: "it does not exist",
  ENOTDIR: "a part of the path is not a folder",
  EISDIR: "it is a folder",
  EEXIST: "it exists already",
  ELOOP: "too many symbolic links",
  ENAMETOOLONG: "the name is too long",
  EXDEV: "it is on another file system",
  EIO: "the disk reports an error",
  ENOTEMPTY: "the folder is not empty",
  EBUSY: "it is in use",
  ETXTBSY: "it is in use",
};

const REFUSALS = new Set(["EACCES", "EPERM", "EROFS"]);

/** Returns a KmsError for an error of the file system that names a path; undefined for anything else. */
export function fileError(error: unknown): KmsError | undefined {
  if (!(error instanceof Error)) return undefined;
  const { code = "", path } = error as NodeJS.ErrnoException;
  const reason = REASONS[code];
  if (reason === undefined || typeof path !== "string") return undefined;
  return new KmsError(
    "CONFIG_INVALID",
    `${subjectOf(resolve(path), code)} (${code}: ${reason})${adviceOf(code)}`,
    error,
  );
}

/** Returns the code of a system error, such as ENOENT, for a message. */
export function codeOf(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? "unknown error";
}

/** Returns the error for an option's file that cannot be read. @param reason a code or words; by default that of the error */
export function unreadable(option: string, path: string, error: unknown, reason = codeOf(error)): KmsError {
  return new KmsError(
    "CONFIG_INVALID",
    `${option}: ${path} cannot be read (${reason}); give a readable file`,
    error,
  );
}

/** Returns which user was denied access by which folder, for such an error or its cause. */
export function refusalIn(error: unknown): string | undefined {
  for (let at = error; at instanceof Error; at = at.cause) {
    const { code = "", path } = at as NodeJS.ErrnoException;
    if (REFUSALS.has(code) && typeof path === "string") return subjectOf(resolve(path), code);
  }
  return undefined;
}

/** Returns what failed: using an existing file or creating one, for which user, and which folder denied it. */
function subjectOf(path: string, code: string): string {
  const refusing = code === "EACCES" || code === "EPERM" ? refusingFolder(path) : undefined;
  if (refusing !== undefined) {
    return `user ${userName()} may not enter ${refusing}, on the way to ${shown(path)}`;
  }
  if (REFUSALS.has(code)) {
    return exists(path)
      ? `user ${userName()} may not use ${path}`
      : `user ${userName()} may not create files in ${dirname(path)}`;
  }
  return `${code === "ENOENT" ? path : shown(path)} cannot be used`;
}

/** Returns the file, or its folder if the file does not exist: the name may be a temporary one. */
function shown(path: string): string {
  return exists(path) || !existsSync(dirname(path)) ? path : `a file in ${dirname(path)}`;
}

function exists(path: string): boolean {
  try {
    return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
  } catch {
    return false;
  }
}

/** Returns the first folder on the path that this user may not enter. */
function refusingFolder(path: string): string | undefined {
  const folders: string[] = [];
  for (let folder = dirname(path); ; folder = dirname(folder)) {
    folders.unshift(folder);
    if (folder === dirname(folder)) break;
  }
  return folders.find((folder) => {
    try {
      accessSync(folder, constants.X_OK);
      return false;
    } catch (error) {
      return (error as NodeJS.ErrnoException).code === "EACCES";
    }
  });
}

function adviceOf(code: string): string {
  if (code === "EACCES" || code === "EPERM") {
    return "; change its owner or mode, or run the command as root or as the plugin's user";
  }
  if (code === "ENOSPC" || code === "EDQUOT") return "; free some space there";
  return "";
}

function userName(): string {
  const uid = process.geteuid?.() ?? 0;
  try {
    return `${userInfo().username} (uid ${uid})`;
  } catch {
    return String(uid);
  }
}
