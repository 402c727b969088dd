// Keeps the audit log's key and head. The key is 32 random bytes, in hex in a file of its own, created on first use.
// The head, in a file beside it, is the number and MAC of the last written line and the number of the oldest retained
// line. It reveals that the end or the beginning of the log was removed.
import type { Stats } from "node:fs";
import { createSecretKey, randomBytes, type KeyObject } from "node:crypto";
import { link, open, rename, rm, stat, unlink } from "node:fs/promises";
import { dirname } from "node:path";
import { KmsError } from "../errors.js";
import { makePrivateFolderLater } from "../files/private-folder.js";
import { ownershipProblem } from "../files/ownership.js";
import { ownerForNewFile, openRegular } from "../files/regular-file.js";
import type { ChainLink } from "./line.js";

const KEY_BYTES = 32;
const OTHERS = 0o077;
/** Maximum size of either file; both are smaller. */
const MAX_BYTES = 4_096;

/** Returns the key. @throws KmsError CONFIG_INVALID if the file is missing, damaged, or accessible to other users */
export async function readAuditKey(path: string): Promise<KeyObject> {
  let text: string;
  let stats: Stats;
  try {
    ({ stats, text } = await readSmall(path));
  } catch (error) {
    if (error instanceof KmsError) throw error;
    const { code } = error as NodeJS.ErrnoException;
    throw new KmsError(
      "CONFIG_INVALID",
      `${path}: the audit key cannot be read (${code ?? "unknown error"}); give a readable file`,
      error,
    );
  }
  const problem = ownershipProblem(path, stats, { danger: "replace the audit key", forAnotherUser: true });
  if (problem !== undefined) throw new KmsError("CONFIG_INVALID", problem);
  if ((stats.mode & OTHERS) !== 0) {
    throw new KmsError("CONFIG_INVALID", `${path}: other users can access the audit key; chmod 600 it`);
  }
  if (!/^[0-9a-f]{64}\n?$/.test(text)) {
    throw new KmsError(
      "CONFIG_INVALID",
      `${path}: is not an audit key of ${2 * KEY_BYTES} hex digits; restore it from a backup`,
    );
  }
  const bytes = Buffer.from(text.slice(0, 2 * KEY_BYTES), "hex");
  const key = createSecretKey(bytes);
  bytes.fill(0);
  return key;
}

async function readSmall(path: string): Promise<{ stats: Stats; text: string }> {
  const file = await openRegular(path);
  try {
    const stats = await file.stat();
    if (stats.size <= MAX_BYTES) return { stats, text: await file.readFile("utf8") };
    throw new KmsError("CONFIG_INVALID", `${path}: is too long for an audit key or head`);
  } finally {
    await file.close();
  }
}

/**
 * Returns the key, and creates it first if it does not exist; says whether it did.
 * @throws KmsError; NodeJS.ErrnoException
 */
export async function readOrCreateAuditKey(path: string): Promise<{ key: KeyObject; isNew: boolean }> {
  const isNew = (await stat(path).catch(() => undefined)) === undefined;
  if (isNew) await createKey(path);
  return { key: await readAuditKey(path), isNew };
}

async function createKey(path: string): Promise<void> {
  const bytes = randomBytes(KEY_BYTES);
  const written = `${path}.${randomBytes(4).toString("hex")}`;
  await makePrivateFolderLater(dirname(path));
  await writeOwned(written, `${bytes.toString("hex")}\n`);
  bytes.fill(0);
  try {
    // Unlike a rename, a link does not replace the key that another process has just created.
    await link(written, path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  } finally {
    await unlink(written);
  }
}

/** The last written line and the oldest retained one. */
export interface AuditHead extends ChainLink {
  /** Number of the oldest retained line; undefined in a head written by a release that did not record it. */
  readonly oldest?: number;
}

/** Returns the head; undefined if it does not exist or cannot be read. */
export async function readHead(keyFile: string): Promise<AuditHead | undefined> {
  try {
    const { seq, mac, oldest } = JSON.parse((await readSmall(headFile(keyFile))).text) as Partial<AuditHead>;
    if (typeof seq !== "number" || typeof mac !== "string") return undefined;
    return { seq, mac, ...(typeof oldest === "number" && { oldest }) };
  } catch {
    return undefined;
  }
}

/** Replaces the head. @throws NodeJS.ErrnoException */
export async function writeHead(keyFile: string, { seq, mac, oldest }: AuditHead): Promise<void> {
  const path = headFile(keyFile);
  await writeOwned(`${path}.new`, `${JSON.stringify({ seq, mac, oldest })}\n`);
  await rename(`${path}.new`, path);
}

function headFile(keyFile: string): string {
  return `${keyFile}.head`;
}

async function writeOwned(path: string, text: string): Promise<void> {
  await rm(path, { force: true });
  // "wx" follows no link.
  const file = await open(path, "wx", 0o600);
  try {
    await giveToFolderOwner(file, path);
    await file.writeFile(text);
  } finally {
    await file.close();
  }
}

/**
 * Gives a file to the owner of its folder if root has created it: the plugin, which runs as another user, must be able
 * to use it.
 */
export async function giveToFolderOwner(
  file: { chown(uid: number, gid: number): Promise<void> },
  path: string,
): Promise<void> {
  const owner = ownerForNewFile(await stat(dirname(path)));
  if (owner !== undefined) await file.chown(owner.uid, owner.gid);
}
