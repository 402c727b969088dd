// The sealed PIN on disk. A new one has the suffix `.prepared` while its shares are handed out, and `.next` while a token
// is asked to take its PIN. Then it replaces the earlier one. Every step is a rename, so that a kill leaves whole files.
import { existsSync, renameSync, rmSync } from "node:fs";
import { dirname } from "node:path";
import { KmsError } from "../errors.js";
import { codeOf } from "../files/file-error.js";
import { readRegular } from "../files/regular-file.js";
import { syncFolder, writeStateFile } from "../files/state-file.js";
import { MAX_DOCUMENT_BYTES, parseSealedPin, type SealedPin } from "./sealed-pin.js";

/** Readable by all users: without enough shares the file is useless, and the plugin's user must read it. */
const MODE = 0o644;
const PREPARED = ".prepared";
const NEXT = ".next";

/** Reads a sealed PIN. @throws KmsError CONFIG_INVALID */
export function readSealedPin(path: string): SealedPin {
  try {
    return parseSealedPin(readRegular(path, MAX_DOCUMENT_BYTES), path);
  } catch (error) {
    if (error instanceof KmsError) throw error;
    const code = codeOf(error);
    const advice = code === "ENOENT" ? "make it with kms-pkcs11 custody split" : "let this user read it";
    throw new KmsError("CONFIG_INVALID", `the sealed PIN ${path} cannot be read (${code}); ${advice}`, error);
  }
}

/** Requires that no file would be overwritten. @throws KmsError CONFIG_INVALID */
export function requireNoSealedPin(path: string): void {
  if (!existsSync(path)) return;
  throw new KmsError(
    "CONFIG_INVALID",
    `${path} exists and may be the only way to a PIN; give --replace once the token has another PIN, or move it away`,
  );
}

/** Requires that no renewal was interrupted: the token may have the PIN of its file. @throws KmsError CONFIG_INVALID */
export function requireNoNext(path: string): void {
  if (!existsSync(path + NEXT)) return;
  const text = `${path}${NEXT} is from an interrupted renewal, and the token may have its PIN`;
  throw new KmsError("CONFIG_INVALID", `${text}; run kms-pkcs11 custody renew first`);
}

/** Stores a sealed PIN that nobody uses yet; an earlier one that was only prepared is replaced. */
export function prepareSealedPin(path: string, sealed: SealedPin): void {
  writeStateFile(path + PREPARED, sealed, MODE);
}

/** Removes a sealed PIN that was only prepared. */
export function dropPrepared(path: string): void {
  rmSync(path + PREPARED, { force: true });
}

/** Returns a sealed PIN that was only prepared; undefined if there is none or it cannot be read. */
export function readPrepared(path: string): SealedPin | undefined {
  try {
    return readSealedPin(path + PREPARED);
  } catch {
    return undefined;
  }
}

/** Notes, before a token is asked to take the prepared PIN, that it may have it from now on. @throws NodeJS.ErrnoException */
export function commitPrepared(path: string): void {
  renameSync(path + PREPARED, path + NEXT);
  syncFolder(dirname(path));
}

/** Returns the sealed PIN that the token may have; undefined if no renewal was interrupted. @throws KmsError CONFIG_INVALID */
export function readNext(path: string): SealedPin | undefined {
  return existsSync(path + NEXT) ? readSealedPin(path + NEXT) : undefined;
}

/** Notes that the token has not taken that PIN. The file stays as a prepared one: its epoch is not used again. */
export function withdrawNext(path: string): void {
  renameSync(path + NEXT, path + PREPARED);
  syncFolder(dirname(path));
}

/** Puts the renewed sealed PIN in the place of the earlier one. @throws NodeJS.ErrnoException */
export function publishNext(path: string): void {
  renameSync(path + NEXT, path);
  syncFolder(dirname(path));
}

/** Puts the prepared sealed PIN in the place of an earlier one. @throws NodeJS.ErrnoException */
export function publishPrepared(path: string): void {
  renameSync(path + PREPARED, path);
  syncFolder(dirname(path));
}
