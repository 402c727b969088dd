// Files in folders where others may write: opening must not block on a FIFO or device, and files that root creates must
// stay usable for the plugin's user.
import { constants } from "node:fs";
import { open, type FileHandle } from "node:fs/promises";
import { KmsError } from "../errors.js";

/** Without O_NONBLOCK a pipe would keep the reader waiting for its writer. */
export const READ_AT_ONCE = constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY;

/** Opens a file to read it. @throws KmsError CONFIG_INVALID for what is no file; NodeJS.ErrnoException */
export async function openRegular(path: string): Promise<FileHandle> {
  const handle = await open(path, READ_AT_ONCE);
  if ((await handle.stat()).isFile()) return handle;
  await handle.close();
  throw new KmsError("CONFIG_INVALID", `${path} is no regular file; move it away`);
}

export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/** Whom a file of this process's has to be given to: the owner of its folder, where root has made it for another user. */
export function ownerForNewFile(folder: Owner): Owner | undefined {
  return process.geteuid?.() === 0 && folder.uid !== 0 ? folder : undefined;
}
