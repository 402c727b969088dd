// Reads an open file synchronously, up to the size of a buffer.
import { readSync } from "node:fs";

/**
 * Fills `bytes` from the current position of `file`; returns the number of bytes read.
 * @throws NodeJS.ErrnoException
 */
export function readInto(file: number, bytes: Buffer): number {
  let length = 0;
  for (let got = -1; got !== 0 && length < bytes.length; length += got) {
    got = readSync(file, bytes, length, bytes.length - length, null);
  }
  return length;
}
