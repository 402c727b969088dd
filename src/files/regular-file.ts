// Files in folders where others may write: opening must not block on a FIFO or device, and files that root creates must
// stay usable for the plugin's user.
import { constants } from "node:fs";
import { open, type FileHandle } from "node:fs/promises";
import { KmsError } from "../errors.js";

/** Without O_NONBLOCK, opening a FIFO would block until it has a writer. */
export const READ_AT_ONCE = constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY;

/** Opens a regular file for reading, or throws CONFIG_INVALID for anything else, and NodeJS.ErrnoException. */
export async function openRegular(path: string): Promise<FileHandle> {
  const handle = await open(path, READ_AT_ONCE);
  if ((await handle.stat()).isFile()) return handle;
  await handle.close();
  throw new KmsError("CONFIG_INVALID", `${path} is not a regular file; move it first`);
}

export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/** Returns the user that must own a new file in this folder, if root creates it for another user; else undefined. */
export function ownerForNewFile(folder: Owner): Owner | undefined {
  return process.geteuid?.() === 0 && folder.uid !== 0 ? folder : undefined;
}
