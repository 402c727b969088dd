// Making a generation of the KEK on a token, for the commands that do: a UUIDv7 (RFC 9562) as its CKA_ID, and
// no key kept that is not protected as it should be.
import { parse as uuidBytes, v7 as uuidV7 } from "uuid";
import { KmsError } from "../errors.js";
import type { TokenAdministration } from "../hsm/token-hsm.js";
import type { KekRecord } from "../hsm/wire.js";
import { readSchedule, type SchedulePolicy } from "../provider/generations.js";

/** @throws KmsError KEY_UNSUITABLE when the token made a key that would be refused; it is destroyed again */
export async function makeGeneration(
  hsm: TokenAdministration,
  policy: SchedulePolicy,
  label: string,
): Promise<KekRecord> {
  const ckaId = Buffer.from(uuidBytes(uuidV7())).toString("hex");
  const made = await hsm.generate({ label, ckaId, kind: "auto" });
  const [refusal] = readSchedule([made], policy).refused;
  if (refusal === undefined) return made;
  await hsm.destroy(made.keyId);
  throw new KmsError(
    "KEY_UNSUITABLE",
    `the token made a key that is refused, and it was destroyed again: ${refusal.reason}`,
  );
}
