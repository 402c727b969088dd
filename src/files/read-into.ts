// Reads files and pipes synchronously, up to a limit.
import { closeSync, openSync, readSync } from "node:fs";
import { KmsError } from "../errors.js";

/** First size of the buffer for a file of unknown length, in bytes. */
const FIRST_BYTES = 64 * 1024;

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

/**
 * Returns the content of a file that an operator names, which may also be a pipe, as in `<(command)`.
 * @throws KmsError CONFIG_INVALID for more than `maxBytes`; NodeJS.ErrnoException
 */
export function readAtMost(path: string, maxBytes: number): Buffer {
  const file = openSync(path, "r");
  try {
    for (let bytes = Buffer.alloc(Math.min(FIRST_BYTES, maxBytes + 1)), length = 0; ;) {
      length += readInto(file, bytes.subarray(length));
      if (length < bytes.length) return bytes.subarray(0, length);
      if (length > maxBytes) {
        throw new KmsError("CONFIG_INVALID", `${path} is longer than ${maxBytes} bytes; name another file`);
      }
      const larger = Buffer.alloc(Math.min(2 * bytes.length, maxBytes + 1));
      bytes.copy(larger);
      bytes.fill(0);
      bytes = larger;
    }
  } finally {
    closeSync(file);
  }
}
