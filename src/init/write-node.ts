// Writes a plan to the node. Each file replaces the earlier one as a whole, so that an interrupted `init` leaves complete
// files only and can be run again. Nothing here waits: a signal takes effect before the first file or after the last.
import {
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { KmsError } from "../errors.js";
import { fileError } from "../files/file-error.js";
import type { InspectedPart } from "./inspection.js";
import type { Planned, PlannedFile } from "./plan.js";

type Owner = Pick<PlannedFile, "mode" | "uid" | "gid">;

/** Mode and owner of folders that the plan does not name, such as /etc/kubernetes. */
const FOLDER: Owner = { mode: 0o755, uid: 0, gid: 0 };

/**
 * Writes what is new, and what differs. The caller has asked for that.
 * @param pin the content of the PIN file; without it the PIN file is left out
 * @throws KmsError CONFIG_INVALID that says what was written before the failure
 */
export function writeNode(
  inspected: readonly InspectedPart[],
  root: string,
  pin: Uint8Array | undefined,
): void {
  const written: string[] = [];
  for (const { part, state } of inspected) {
    if (state === "unchanged" || state === "kept") continue;
    try {
      if (write(part, state === "new", join(root, part.path), pin)) written.push(part.path);
    } catch (error) {
      const { message } = fileError(error) ?? KmsError.from(error);
      const before = written.length === 0 ? "nothing was written" : `written before: ${written.join(", ")}`;
      throw new KmsError("CONFIG_INVALID", `${message}; ${before}. Correct this and run init again`, error);
    }
  }
}

/** Returns whether the part was written. */
function write(part: Planned, isNew: boolean, path: string, pin: Uint8Array | undefined): boolean {
  switch (part.kind) {
    case "folder":
      makeFolders(path);
      break;
    case "link":
      makeFolders(dirname(path));
      replace(path, (draft) => {
        symlinkSync(part.target, draft);
      });
      return true;
    case "file":
      replaceFile(path, Buffer.from(part.content), part);
      return true;
    case "pin":
      if (pin !== undefined) replaceFile(path, pin, part);
      else if (isNew) return false;
  }
  giveAway(path, part);
  return true;
}

/** Sets mode and owner of an existing file or folder, never through a link. */
function giveAway(path: string, { mode, uid, gid }: Owner): void {
  const file = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    fchmodSync(file, mode);
    fchownSync(file, uid, gid);
  } finally {
    closeSync(file);
  }
}

/** Makes a folder and its missing parents. */
function makeFolders(path: string): void {
  if (lstatSync(path, { throwIfNoEntry: false }) !== undefined) return;
  makeFolders(dirname(path));
  mkdirSync(path, FOLDER.mode);
  giveAway(path, FOLDER);
}

function replaceFile(path: string, content: Uint8Array, { mode, uid, gid }: Owner): void {
  makeFolders(dirname(path));
  replace(path, (draft) => {
    // "wx" does not follow links.
    const file = openSync(draft, "wx", 0o600);
    try {
      writeFileSync(file, content);
      fchownSync(file, uid, gid);
      fchmodSync(file, mode);
      fsyncSync(file);
    } catch (error) {
      throw Object.assign(error as NodeJS.ErrnoException, { path });
    } finally {
      closeSync(file);
    }
  });
}

/**
 * Replaces `path` with what `make` creates. The draft's name begins with a dot, which hides it from kubelet, and is always
 * the same, so that the next run removes it if this one is killed.
 */
function replace(path: string, make: (draft: string) => void): void {
  const draft = join(dirname(path), `.${basename(path)}.kms-pkcs11-init`);
  rmSync(draft, { force: true });
  try {
    make(draft);
    renameSync(draft, path);
  } catch (error) {
    rmSync(draft, { force: true });
    throw error;
  }
  const folder = openSync(dirname(path), "r");
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}
