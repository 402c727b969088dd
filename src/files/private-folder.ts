// Makes folders that only this user can enter. Node's own `recursive` never returns where the file system has a folder's
// parent but lets nobody make the folder, as in /proc: it makes the parent again and again.
import { mkdirSync, statSync } from "node:fs";
import { mkdir, stat } from "node:fs/promises";
import { dirname } from "node:path";

const MODE = 0o700;

/** Makes a folder and those that it lies in, unless they exist, with mode 0700. @throws NodeJS.ErrnoException */
export function makePrivateFolder(path: string): void {
  try {
    mkdirSync(path, MODE);
  } catch (error) {
    if (codeOf(error) === "ENOENT" && dirname(path) !== path) {
      makePrivateFolder(dirname(path));
      makeLast(path);
    } else if (codeOf(error) !== "EEXIST" || !statSync(path).isDirectory()) throw error;
  }
}

/** As makePrivateFolder, without blocking the event loop for the disk. @throws NodeJS.ErrnoException */
export async function makePrivateFolderLater(path: string): Promise<void> {
  try {
    await mkdir(path, MODE);
  } catch (error) {
    if (codeOf(error) === "ENOENT" && dirname(path) !== path) {
      await makePrivateFolderLater(dirname(path));
      makeLast(path);
    } else if (codeOf(error) !== "EEXIST" || !(await stat(path)).isDirectory()) throw error;
  }
}

/** Its parent exists now, so that ENOENT is an answer. Another process may have made it meanwhile. */
function makeLast(path: string): void {
  try {
    mkdirSync(path, MODE);
  } catch (error) {
    if (codeOf(error) !== "EEXIST") throw error;
  }
}

function codeOf(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException).code;
}
