// Opens the files of an audit log for reading, the oldest first, while the plugin may rotate them.
import type { FileHandle } from "node:fs/promises";
import { openRegular } from "../files/regular-file.js";
import { rotatedFiles } from "./rotated-files.js";

const TRIES = 3;

export interface OpenedFile {
  readonly path: string;
  readonly handle: FileHandle;
}

/**
 * Opens all files. If the log is rotated meanwhile, lists them again. The caller closes them.
 * @throws KmsError CONFIG_INVALID for anything but a regular file; NodeJS.ErrnoException
 */
export async function openAll(file: string): Promise<OpenedFile[]> {
  for (let tried = 1; ; tried++) {
    const paths = [...(await rotatedFiles(file)).map(({ path }) => path), file];
    const opened: OpenedFile[] = [];
    try {
      for (const path of paths) opened.push({ path, handle: await openRegular(path) });
      return opened;
    } catch (error) {
      for (const { handle } of opened) await handle.close();
      if ((error as NodeJS.ErrnoException).code !== "ENOENT" || tried === TRIES) throw error;
    }
  }
}
