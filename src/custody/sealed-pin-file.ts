// The sealed PIN on disk. A new one is made under another name and takes its place by a rename, so that a kill at any
// step leaves a whole file. The name says how far a renewal has come: `.prepared` while the shares are handed out and
// checked, `.next` from just before the token's PIN is changed until the token has accepted the new one.
import { existsSync, renameSync, rmSync } from "node:fs";
import { dirname } from "node:path";
import { KmsError } from "../errors.js";
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
    const code = (error as NodeJS.ErrnoException).code ?? "unreadable";
    const advice = code === "ENOENT" ? "make it with kms-pkcs11 custody split" : "let this user read it";
    throw new KmsError("CONFIG_INVALID", `the sealed PIN ${path} cannot be read (${code}); ${advice}`, error);
  }
}

/**
 * Returns the sealed PINs that the token may have, the one in force first; the second is that of a renewal that was
 * stopped while it changed the token's PIN. @throws KmsError CONFIG_INVALID
 */
export function readSealedPins(path: string): readonly SealedPin[] {
  const inForce = readSealedPin(path);
  return existsSync(path + NEXT) ? [inForce, readSealedPin(path + NEXT)] : [inForce];
}

/** Requires that no file would be overwritten. @throws KmsError CONFIG_INVALID */
export function requireNoSealedPin(path: string): void {
  const found = [path, path + NEXT].find((one) => existsSync(one));
  if (found === undefined) return;
  throw new KmsError(
    "CONFIG_INVALID",
    `${found} exists and may be the only way to a PIN; replace it with kms-pkcs11 custody renew, or move it away`,
  );
}

/** Stores a sealed PIN that nobody uses yet; an earlier one that was only prepared is replaced. */
export function prepareSealedPin(path: string, sealed: SealedPin): void {
  writeStateFile(path + PREPARED, sealed, MODE);
}

/** Removes a sealed PIN that was only prepared. */
export function dropPrepared(path: string): void {
  rmSync(path + PREPARED, { force: true });
}

/** Puts the prepared sealed PIN in force at once: the token has its PIN already. @throws NodeJS.ErrnoException */
export function publishPrepared(path: string): void {
  move(path + PREPARED, path);
}

/** Records that the token's PIN is about to change to the prepared one. @throws NodeJS.ErrnoException */
export function beginChange(path: string): void {
  move(path + PREPARED, path + NEXT);
}

/** Puts the next sealed PIN in force: the token has accepted its PIN. @throws NodeJS.ErrnoException */
export function finishChange(path: string): void {
  move(path + NEXT, path);
}

/** Withdraws the next sealed PIN: the token has the PIN in force. @throws NodeJS.ErrnoException */
export function cancelChange(path: string): void {
  rmSync(path + NEXT, { force: true });
  syncFolder(dirname(path));
}

function move(from: string, to: string): void {
  renameSync(from, to);
  syncFolder(dirname(to));
}
