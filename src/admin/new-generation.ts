// Making a generation of the KEK on a token, for the commands that do: a UUIDv7 (RFC 9562) as its CKA_ID, and
// no key kept that is not protected as it should be.
import { parse as uuidBytes, v7 as uuidV7 } from "uuid";
import { KmsError } from "../errors.js";
import type { MechanismChoice } from "../hsm/mechanisms.js";
import type { Hsm, KekRecord } from "../hsm/port.js";
import type { TokenAdministration } from "../hsm/token-hsm.js";
import { readSchedule, type SchedulePolicy } from "../provider/generations.js";
import { destroyAndConfirm } from "./destroy-on-tokens.js";

/**
 * Makes a generation that performs the mechanism.
 * @throws KmsError MECHANISM_UNSUPPORTED when the token does not; KEY_UNSUITABLE when the token made a key that would be refused; it is destroyed again. KEY_MISSING when
 * nobody but its maker finds it: a key is worth nothing before the token shows it to a library loaded anew
 */
export async function makeGeneration(
  hsm: TokenAdministration & Pick<Hsm, "listKeksReloaded">,
  policy: SchedulePolicy,
  label: string,
  mechanism: MechanismChoice | "auto",
): Promise<KekRecord> {
  const ckaId = Buffer.from(uuidBytes(uuidV7())).toString("hex");
  const made = await hsm.generate({ label, ckaId, kind: "auto", mechanism });
  const [refusal] = readSchedule([made], policy).refused;
  if (refusal === undefined) {
    await requireKept(hsm, made);
    return made;
  }
  await destroyAndConfirm(hsm, made);
  throw new KmsError(
    "KEY_UNSUITABLE",
    `the token made a key that is refused, and it was destroyed again: ${refusal.reason}`,
  );
}

async function requireKept(hsm: Pick<Hsm, "listKeksReloaded">, { keyId, label }: KekRecord): Promise<void> {
  const found = await hsm.listKeksReloaded().catch((error: unknown) => {
    const { code, message } = KmsError.from(error);
    const text = `KEK ${keyId} ("${label}") was made and could not be read back: ${message}; see 'kms-pkcs11 keys list'`;
    throw new KmsError(code, text, error);
  });
  if (found.some((record) => record.keyId === keyId)) return;
  throw new KmsError(
    "KEY_MISSING",
    `the token made KEK ${keyId} ("${label}") and has not kept it; nothing uses it yet: run the command again`,
  );
}
