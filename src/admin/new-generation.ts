// Makes a generation of the KEK on a token, with a UUIDv7 (RFC 9562) as its CKA_ID. A KEK is kept only if it is
// protected as required, if the token shows it to a reloaded library, and if no other command has made a rival at the
// same time.
import { parse as uuidBytes, v7 as uuidV7 } from "uuid";
import { KmsError } from "../errors.js";
import type { MechanismChoice } from "../hsm/mechanisms.js";
import type { Hsm, KekRecord } from "../hsm/port.js";
import type { DestroyWindow, TokenAdministration } from "../hsm/token-hsm.js";
import { readSchedule, type SchedulePolicy } from "../provider/generations.js";
import { destroyAndConfirm } from "./destroy-on-tokens.js";
import { readBack } from "./read-back.js";
import { requireNoRival, type MadeKek } from "./rival-keks.js";

export interface NewGeneration {
  readonly policy: SchedulePolicy;
  readonly label: string;
  /** What the KEK must perform. */
  readonly mechanism: MechanismChoice | "auto";
  /** Returns whether another KEK that appears meanwhile must not exist beside this one. */
  readonly isRival: MadeKek["isRival"];
  /** Whether this KEK goes if a rival does not. */
  readonly withdraws?: boolean;
  /** The time in which the KEK is certainly unused; undefined if it is active at once. */
  readonly unusedUntil: DestroyWindow | undefined;
}

export interface MadeGeneration {
  readonly made: KekRecord;
  /** What a reloaded library listed afterwards. */
  readonly listed: readonly KekRecord[];
}

/**
 * Makes a generation and returns it with the token's other KEKs.
 * @throws KmsError MECHANISM_UNSUPPORTED when the token does not perform the mechanism; KEY_UNSUITABLE when it made a
 *   key that the plugin would refuse, which is destroyed; KEY_MISSING when a reloaded library does not show the key;
 *   and as `requireNoRival` when another command made one at the same time
 */
export async function makeGeneration(
  hsm: TokenAdministration & Pick<Hsm, "listKeksReloaded">,
  { policy, label, mechanism, isRival, withdraws, unusedUntil }: NewGeneration,
): Promise<MadeGeneration> {
  const ckaId = Buffer.from(uuidBytes(uuidV7())).toString("hex");
  const made = await hsm.generate({ label, ckaId, kind: "auto", mechanism });
  const [refusal] = readSchedule([made], policy).refused;
  if (refusal === undefined) {
    const listed = await requireKept(hsm, made);
    // A refused key, which somebody without the PIN may have made, is never active.
    const isUsable = (record: KekRecord): boolean => readSchedule([record], policy).refused.length === 0;
    await requireNoRival({
      hsm,
      made,
      listed,
      isRival: (record) => isRival(record) && isUsable(record),
      withdraws: withdraws === true,
      unusedUntil,
    });
    return { made, listed };
  }
  await destroyAndConfirm(hsm, made);
  throw new KmsError(
    "KEY_UNSUITABLE",
    `the token made a key that the plugin would refuse, and it was destroyed: ${refusal.reason}`,
  );
}

async function requireKept(
  hsm: Pick<Hsm, "listKeksReloaded">,
  { keyId, label }: KekRecord,
): Promise<readonly KekRecord[]> {
  const found = await readBack(hsm).catch((error: unknown) => {
    const { code, message } = KmsError.from(error);
    const text = `KEK ${keyId} ("${label}") was made and could not be read back: ${message}; see 'kms-pkcs11 keys list'`;
    throw new KmsError(code, text, error);
  });
  if (found.some((record) => record.keyId === keyId)) return found;
  throw new KmsError(
    "KEY_MISSING",
    `the token made KEK ${keyId} ("${label}") but has not kept it; nothing uses it yet, so run the command again`,
  );
}
