// Names, lists and removes the rotated files of an audit log. A rotated file carries the number of its first line in
// its name.
import { readdir, rename, unlink } from "node:fs/promises";
import { basename, dirname, join } from "node:path";

/** Digits that a number is padded to; larger numbers make longer names. */
const DIGITS = 12;
const MAX_DIGITS = 15;

/** A rotated file of an audit log. */
export interface RotatedFile {
  readonly path: string;
  /** Number of its first line, according to its name. */
  readonly first: number;
}

/** Returns the rotated files, the oldest first. @throws NodeJS.ErrnoException */
export async function rotatedFiles(file: string): Promise<RotatedFile[]> {
  const prefix = `${basename(file)}.`;
  return (await readdir(dirname(file)))
    .filter((name) => name.startsWith(prefix))
    .map((name) => name.slice(prefix.length))
    .filter((rest) => /^\d+$/.test(rest) && rest.length >= DIGITS && rest.length <= MAX_DIGITS)
    .map((number) => ({ path: join(dirname(file), prefix + number), first: Number(number) }))
    .sort((one, other) => one.first - other.first);
}

/**
 * Moves the written file away by one rename.
 * @param first the number of its first line
 * @throws NodeJS.ErrnoException
 */
export async function moveAway(file: string, first: number): Promise<void> {
  await rename(file, `${file}.${String(first).padStart(DIGITS, "0")}`);
}

/** Removes files that are no longer kept. @throws NodeJS.ErrnoException */
export async function removeFiles(files: readonly RotatedFile[]): Promise<void> {
  for (const { path } of files) await unlink(path);
}
