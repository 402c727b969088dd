// Logs how a reading of the keyring differs from the one before.
import type { Log } from "../log.js";
import { findForDecrypt, generationsOnlyIn, type Generation, type Schedule } from "./generations.js";

/** Two successive readings. */
export interface KeyringChange {
  readonly before: Schedule;
  readonly read: Schedule;
  /** The key_id that Encrypt uses now. */
  readonly inUse: string | undefined;
}

/** Logs KEKs that were found or removed, and keys that are refused from now on. */
export function logChanges(log: Log, { before, read, inUse }: KeyringChange): void {
  for (const { record } of generationsOnlyIn(read, before)) {
    log.info({ keyId: record.keyId, label: record.label }, "KEK found");
  }
  for (const generation of generationsOnlyIn(before, read)) logRemoved(log, generation, read, inUse);
  const isKnown = (keyId: string): boolean => before.refused.some(({ record }) => record.keyId === keyId);
  for (const { record, reason } of read.refused) {
    const { keyId, label } = record;
    if (!isKnown(keyId)) log.warn({ keyId, label, reason }, "key refused");
  }
}

/** A KEK that Encrypt does not use was most likely destroyed on purpose. */
function logRemoved(
  log: Log,
  { record: { keyId, label } }: Generation,
  read: Schedule,
  inUse: string | undefined,
): void {
  const renamed = findForDecrypt(read, keyId)?.record.keyId;
  if (renamed !== undefined) {
    log.warn(
      { keyId, label, now: renamed },
      "the HSM no longer computes the same fingerprint for this KEK, so its key_id has changed; it still decrypts what is stored under the earlier key_id",
    );
  } else if (inUse === keyId) log.error({ keyId, label }, "the active KEK is gone from the token");
  else log.warn({ keyId, label }, "a KEK that is not active is no longer on the token");
}
