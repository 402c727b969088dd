// Writes a folder of evidence: complete or not at all, and never over something that exists.
import {
  closeSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { dirname, join, resolve } from "node:path";
import { KmsError } from "../errors.js";
import { fileError } from "../files/file-error.js";
import { syncFolder } from "../files/state-file.js";
import { MANIFEST, MAX_FILE_BYTES, manifestOf, sha256 } from "./manifest.js";

/** Requires that nothing has the folder's name yet. @throws KmsError CONFIG_INVALID */
export function requireFree(path: string): void {
  if (lstatSync(path, { throwIfNoEntry: false }) === undefined) return;
  throw new KmsError(
    "CONFIG_INVALID",
    `${path} exists; evidence never replaces anything, give another folder`,
  );
}

/**
 * Writes the files and their manifest to a folder that does not exist yet, readable for its owner only.
 * @returns the manifest's SHA-256, which identifies the whole folder
 * @throws KmsError CONFIG_INVALID; nothing is left behind
 */
export function writeEvidence(
  path: string,
  files: ReadonlyMap<string, Buffer>,
  toolVersion: string,
  collectedAt: Date,
): string {
  const target = resolve(path);
  requireFree(target);
  for (const [name, { length }] of files) {
    if (length > MAX_FILE_BYTES) {
      throw new KmsError("CONFIG_INVALID", `${name} is longer than ${MAX_FILE_BYTES} bytes`);
    }
  }
  const draft = `${target}.${process.pid}.new`;
  const manifest = Buffer.from(`${JSON.stringify(manifestOf(files, toolVersion, collectedAt), null, 2)}\n`);
  try {
    mkdirSync(draft, { mode: 0o700 });
    for (const [name, bytes] of [...files, [MANIFEST, manifest] as const]) writeNew(join(draft, name), bytes);
    syncFolder(draft);
    requireFree(target);
    renameSync(draft, target);
  } catch (error) {
    rmSync(draft, { recursive: true, force: true });
    throw error instanceof KmsError ? error : (fileError(error) ?? error);
  }
  syncFolder(dirname(target));
  return sha256(manifest);
}

function writeNew(path: string, bytes: Buffer): void {
  const file = openSync(path, "wx", 0o600);
  try {
    writeFileSync(file, bytes);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}
