// Opens the audit log's file safely, only a regular file with one name, of a user who may own it, and appends to it.
import { constants, lstat, open, stat, type FileHandle } from "node:fs/promises";
import { dirname } from "node:path";
import { KmsError } from "../errors.js";
import { requireWritableFolder } from "../files/writable-folder.js";
import { giveToFolderOwner, readAuditKey } from "./key.js";

/** The files of an audit log. */
interface AuditFiles {
  readonly file: string;
  readonly keyFile: string;
}

/** Opens the log. @throws KmsError CONFIG_INVALID for a file of another user or with more than one name */
export async function openToAppend(path: string, create = constants.O_CREAT): Promise<FileHandle> {
  const flags = constants.O_RDWR | constants.O_APPEND | create | constants.O_NOFOLLOW;
  const handle = await open(path, flags | constants.O_NONBLOCK | constants.O_NOCTTY, 0o600).catch(
    async (error: unknown) => {
      if (await isSymbolicLink(path)) throw notOurs(path, "is a symbolic link", error);
      throw error;
    },
  );
  try {
    const found = await handle.stat();
    if (found.size === 0 && found.isFile()) await giveToFolderOwner(handle, path);
    const folder = await stat(dirname(path));
    if (!found.isFile()) throw notOurs(path, "is not a regular file");
    // Through a hard link, another user could make root append to any file.
    if (found.nlink > 1) throw notOurs(path, `has ${found.nlink} names (hard links)`);
    if (![0, process.geteuid?.(), folder.uid].includes(found.uid)) {
      throw notOurs(path, `belongs to user ${found.uid}`);
    }
    return handle;
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/**
 * Appends text to a file of `size` bytes, to stable storage. After a failure the file has `size` bytes.
 * @throws NodeJS.ErrnoException
 */
export async function appendWhole(handle: FileHandle, text: Buffer, size: number): Promise<void> {
  try {
    await handle.appendFile(text);
    await handle.datasync();
  } catch (error) {
    await handle.truncate(size);
    throw error;
  }
}

/**
 * Finds out whether the log can be written, without writing it: the file, its folder, and the key if it exists.
 * @throws KmsError, NodeJS.ErrnoException
 */
export async function tryAuditLog({ file, keyFile }: AuditFiles): Promise<void> {
  for (const path of [file, keyFile]) requireWritableFolder(dirname(path));
  await unlessMissing(readAuditKey(keyFile));
  await unlessMissing(openToAppend(file, 0).then((handle) => handle.close()));
}

async function unlessMissing(work: Promise<unknown>): Promise<void> {
  await work.catch((error: unknown) => {
    const cause = error instanceof KmsError ? error.cause : error;
    if ((cause as NodeJS.ErrnoException | undefined)?.code !== "ENOENT") throw error;
  });
}

async function isSymbolicLink(path: string): Promise<boolean> {
  return lstat(path).then(
    (found) => found.isSymbolicLink(),
    () => false,
  );
}

function notOurs(path: string, problem: string, cause?: unknown): KmsError {
  const message = `${path} ${problem}; the audit log is not written there, move it first`;
  return new KmsError("CONFIG_INVALID", message, cause);
}
