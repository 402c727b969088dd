// Files in folders where others may write: opening must not block on a FIFO or device, and files that root creates must
// stay usable for the plugin's user.
import { closeSync, constants, fstatSync, openSync } from "node:fs";
import { open, type FileHandle } from "node:fs/promises";
import { KmsError } from "../errors.js";
import { readInto } from "./read-into.js";

/** Without O_NONBLOCK, opening a FIFO would block until it has a writer. */
export const READ_AT_ONCE = constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY;

/** Opens a regular file for reading, or throws CONFIG_INVALID for anything else, and NodeJS.ErrnoException. */
export async function openRegular(path: string): Promise<FileHandle> {
  const handle = await open(path, READ_AT_ONCE);
  if ((await handle.stat()).isFile()) return handle;
  await handle.close();
  throw new KmsError("CONFIG_INVALID", `${path} is not a regular file; move it first`);
}

/**
 * Returns the content of a regular file, which its owner may exchange for a device or let grow without end.
 * @throws KmsError CONFIG_INVALID for anything else and for more than `maxBytes`; NodeJS.ErrnoException
 */
export function readRegular(path: string, maxBytes: number): Buffer {
  const file = openSync(path, READ_AT_ONCE);
  try {
    const stat = fstatSync(file);
    if (!stat.isFile()) throw new KmsError("CONFIG_INVALID", `${path} is not a regular file; name one`);
    const bytes = Buffer.alloc(Math.min(stat.size, maxBytes) + 1);
    const length = readInto(file, bytes);
    if (length < bytes.length) return bytes.subarray(0, length);
    bytes.fill(0);
    const what =
      length > maxBytes ? `is longer than ${maxBytes} bytes; name another file` : "grew while it was read";
    throw new KmsError("CONFIG_INVALID", `${path} ${what}`);
  } finally {
    closeSync(file);
  }
}

/** The user and group of a file. */
export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/** Returns the user that must own a new file in this folder, if root creates it for another user; else undefined. */
export function ownerForNewFile(folder: Owner): Owner | undefined {
  return process.geteuid?.() === 0 && folder.uid !== 0 ? folder : undefined;
}
