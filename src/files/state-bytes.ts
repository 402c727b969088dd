// Larger binary files in the state directory, written beside requests: nothing here blocks the event loop for the disk.
// Permissions and atomic replacement are those of state-file.ts.
import { renameSync } from "node:fs";
import { open, rename, rm, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { makePrivateFolderLater } from "./private-folder.js";
import { ownerForNewFile, readRegular } from "./regular-file.js";

/** Returns the content, or throws NodeJS.ErrnoException, or CONFIG_INVALID if it is not a regular file or is too long. */
export function readStateBytes(path: string, maxBytes: number): Buffer {
  return readRegular(path, maxBytes);
}

/**
 * Replaces the file atomically, so that it survives a loss of power. Creates its folder with mode 0700 if necessary,
 * and leaves no draft behind if the disk is full. Callers write one after the other.
 * @throws NodeJS.ErrnoException
 */
export async function writeStateBytes(path: string, bytes: Uint8Array): Promise<void> {
  const folder = dirname(path);
  await makePrivateFolderLater(folder);
  const draft = `${path}.${process.pid}.new`;
  await rm(draft, { force: true });
  // "wx" does not follow links.
  const file = await open(draft, "wx", 0o600);
  try {
    try {
      const owner = ownerForNewFile(await stat(folder));
      if (owner !== undefined) await file.chown(owner.uid, owner.gid);
      await file.writeFile(bytes);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(draft, path);
  } catch (error) {
    await rm(draft, { force: true });
    throw error;
  }
  await syncFolder(folder);
}

async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

/** Renames a file that cannot be used, replacing an earlier one. Returns its new path. @throws NodeJS.ErrnoException */
export function setAside(path: string): string {
  const aside = `${path}.damaged`;
  renameSync(path, aside);
  return aside;
}
