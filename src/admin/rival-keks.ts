// Handles KEKs that two commands make at the same time, on one machine or on several that share a token. Each command
// checked that it was alone before it made its KEK, so each must check again afterwards with a reloaded library. The
// KEK with the smallest key_id stays: every command that sees both reaches the same decision without communication, and
// since key_ids begin with a UUIDv7, this KEK is the oldest.
import { setTimeout } from "node:timers/promises";
import { KmsError } from "../errors.js";
import type { Hsm, KekRecord } from "../hsm/port.js";
import type { DestroyWindow, TokenAdministration } from "../hsm/token-hsm.js";
import { isSameKek } from "../hsm/key-id.js";
import { destroyAndConfirm } from "./destroy-on-tokens.js";
import { readBack } from "./read-back.js";

export interface MadeKek {
  readonly hsm: Pick<TokenAdministration, "destroy"> & Pick<Hsm, "listKeksReloaded">;
  readonly made: KekRecord;
  /** What a reloaded library listed after the KEK was made. */
  readonly listed: readonly KekRecord[];
  /** Returns whether another KEK must not exist beside this one. */
  readonly isRival: (record: KekRecord) => boolean;
  /**
   * Whether to destroy this KEK if the rival stays although it should go. Its command then did not see this KEK, since
   * it was made later, or has ended. If that command is only slow, both KEKs go, and another has to be made.
   */
  readonly withdraws?: boolean;
  /**
   * The time in which the KEK is certainly unused, so that it may be destroyed without a proof; undefined for a KEK
   * that is active at once, since a node may have used it by now.
   */
  readonly unusedUntil: DestroyWindow | undefined;
}

/** How long the command that made a rival may take to destroy it, in ms. */
const WITHDRAWAL_LIMIT_MS = 10_000;
const POLL_MS = 500;

/**
 * Requires that no other command made a rival KEK at the same time. Destroys this command's KEK if the rival stays and
 * this KEK is certainly unused.
 * @throws KmsError TOKEN_REFUSED when this command's KEK was destroyed; KEY_AMBIGUOUS when both are still on the token;
 *   why the KEK could not be destroyed
 */
export async function requireNoRival(kek: MadeKek, withdrawalLimitMs = WITHDRAWAL_LIMIT_MS): Promise<void> {
  let rivals = rivalsAmong(kek.listed, kek);
  const [first] = rivals;
  if (first === undefined) return;
  if (kek.unusedUntil === undefined) throw bothRemain(kek.made, rivals);
  if (first.keyId < kek.made.keyId) throw await withdraw(kek, kek.unusedUntil, first);
  // The other commands destroy theirs. Unless asked to, this one must not, even if they do not: both could be lost.
  const until = performance.now() + withdrawalLimitMs;
  while (performance.now() < until) {
    await setTimeout(POLL_MS);
    rivals = rivalsAmong(await listAgain(kek, first), kek);
    if (rivals.length === 0) return;
  }
  if (kek.withdraws === true) throw await withdraw(kek, kek.unusedUntil, first);
  throw bothRemain(kek.made, rivals);
}

function bothRemain(made: KekRecord, rivals: readonly KekRecord[]): KmsError {
  const names = rivals.map(describe).join(" and ");
  return new KmsError(
    "KEY_AMBIGUOUS",
    `made ${describe(made)}, but another command made ${names} at the same time, and both are on the token; ` +
      "'kms-pkcs11 keys list' shows which one is active, and 'kms-pkcs11 keys destroy' destroys the other",
  );
}

/** @throws KmsError that names both KEKs when the token cannot be read */
async function listAgain({ hsm, made }: MadeKek, rival: KekRecord): Promise<readonly KekRecord[]> {
  try {
    return await readBack(hsm);
  } catch (error) {
    const { code, message } = KmsError.from(error);
    const text = `made ${describe(made)}; whether ${describe(rival)} of another command is still on the token is not known: ${message}`;
    throw new KmsError(code, text, error);
  }
}

function rivalsAmong(records: readonly KekRecord[], { made, isRival }: MadeKek): KekRecord[] {
  return records
    .filter((record) => !isSameKek(record, made) && isRival(record))
    .sort((one, other) => (one.keyId < other.keyId ? -1 : 1));
}

/**
 * Destroys this command's KEK and returns the error that reports it.
 * @throws KmsError when it may still be on the token
 */
async function withdraw(
  { hsm, made }: MadeKek,
  unusedUntil: DestroyWindow,
  rival: KekRecord,
): Promise<KmsError> {
  const conflict = `another command made ${describe(rival)} at the same time`;
  try {
    await destroyAndConfirm(hsm, made, unusedUntil);
  } catch (error) {
    const { code, message } = KmsError.from(error);
    const text = `${conflict}, and this command's ${describe(made)} could not be destroyed: ${message}`;
    throw new KmsError(code, text, error);
  }
  return new KmsError("TOKEN_REFUSED", `${conflict}; this command's ${describe(made)} was destroyed unused`);
}

function describe({ label, keyId }: KekRecord): string {
  return `"${label}" (key_id ${keyId})`;
}
