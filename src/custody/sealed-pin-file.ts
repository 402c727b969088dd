// The sealed PIN on disk. A new one has the suffix `.prepared` while its shares are handed out, and then replaces the earlier
// one by a rename, so that a kill at any step leaves a whole file.
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

/** Stores a sealed PIN that nobody uses yet; an earlier one that was only prepared is replaced. */
export function prepareSealedPin(path: string, sealed: SealedPin): void {
  writeStateFile(path + PREPARED, sealed, MODE);
}

/** Removes a sealed PIN that was only prepared. */
export function dropPrepared(path: string): void {
  rmSync(path + PREPARED, { force: true });
}

/** Puts the prepared sealed PIN in the place of an earlier one. @throws NodeJS.ErrnoException */
export function publishPrepared(path: string): void {
  renameSync(path + PREPARED, path);
  syncFolder(dirname(path));
}
