// Whether files can be made in a folder. Only an attempt shows it: the mode says nothing of a full disk, a quota or a
// read-only file system.
import { mkdtempSync, rmSync, statfsSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

const TRIAL_BYTES = 4_096;

/** Returns the folder, or the nearest one above it that exists. @throws NodeJS.ErrnoException */
export function nearestExisting(folder: string): string {
  let at = folder;
  while (statSync(at, { throwIfNoEntry: false }) === undefined && at !== dirname(at)) at = dirname(at);
  return at;
}

/**
 * Makes a file of 4 KiB in the folder, or in the nearest existing one above it, and removes it again.
 * @throws NodeJS.ErrnoException that names a path
 */
export function requireWritableFolder(folder: string): void {
  const existing = nearestExisting(folder);
  const trial = mkdtempSync(join(existing, ".check-"));
  try {
    writeFileSync(join(trial, "trial"), Buffer.alloc(TRIAL_BYTES));
  } finally {
    rmSync(trial, { recursive: true, force: true });
  }
}

/** Returns the space that this user may use in the folder's file system, in bytes. @throws NodeJS.ErrnoException */
export function freeBytes(folder: string): number {
  const { bavail, bsize } = statfsSync(nearestExisting(folder));
  return bavail * bsize;
}
