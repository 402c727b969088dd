// Which files make up an audit log: the one that is written, and those that were rotated away, which carry the
// number of their first line. What was removed for want of room is told by a line, see audit-line.ts.
import { readdir, rename, unlink } from "node:fs/promises";
import { basename, dirname, join } from "node:path";

const DIGITS = 12;

export interface RotatedFile {
  readonly path: string;
  /** The number of its first line. */
  readonly first: number;
}

/** Returns the rotated files, the oldest first. @throws NodeJS.ErrnoException */
export async function rotatedFiles(file: string): Promise<RotatedFile[]> {
  const prefix = `${basename(file)}.`;
  const numbers = (await readdir(dirname(file)))
    .filter((name) => name.startsWith(prefix))
    .map((name) => name.slice(prefix.length))
    .filter((rest) => /^\d+$/.test(rest) && rest.length === DIGITS);
  return numbers.sort().map((number) => ({
    path: join(dirname(file), prefix + number),
    first: Number(number),
  }));
}

/** Moves the written file away by one rename and removes the oldest beyond `keep`. @throws NodeJS.ErrnoException */
export async function rotateAway(file: string, first: number, keep: number): Promise<void> {
  await rename(file, `${file}.${String(first).padStart(DIGITS, "0")}`);
  const rotated = await rotatedFiles(file);
  for (const { path } of rotated.slice(0, Math.max(0, rotated.length - keep))) await unlink(path);
}
