// Performs one mechanism of the table with a KEK: the probe that `check` and `keys create` use, then round trips of
// several lengths, and tampering with the body and the associated data.
import type { MechanismChoice } from "../../hsm/mechanisms.js";
import type { MechanismTrial, Outcome } from "../../hsm/wire-trials.js";
import { TokenFault } from "../ckr.js";
import type { Kek } from "../kek.js";
import type { Performer } from "../mechanisms/performer.js";
import { PERFORMERS } from "../mechanisms/table.js";
import { probe, refusalOf } from "../probe.js";
import type { TokenSession } from "../session.js";
import { faultOutcome, outcomeOfWork } from "./outcome.js";

const TEXT = Buffer.from("kms-pkcs11 self-test: 32 bytes..");
const AAD = Buffer.from("kms-pkcs11 token report");
/** A seed has 32 bytes; with its digest it has 40, and the longest plaintext that is accepted has 768. */
const LENGTHS = [1, 16, 31, 32, 33, 40, 128, 768] as const;

/** Tries a mechanism. @throws TokenFault when the token is away or logged out */
export function tryMechanism(session: TokenSession, kek: Kek, choice: MechanismChoice): MechanismTrial {
  const [result] = probe(session, kek, choice);
  if (result?.works !== true) {
    const detail = result?.detail ?? "not tried";
    return { choice, mechanism: choice, works: false, detail, code: "MECHANISM_UNSUPPORTED" };
  }
  const { mechanism, detail } = result;
  const performer = PERFORMERS[mechanism];
  const body = performer.encrypt(session, kek, AAD, TEXT);
  const refused = (aad: Buffer, altered: Buffer): Outcome => {
    const refusal = refusalOf(session, kek, () => performer.decrypt(session, kek, aad, altered));
    return refusal === undefined ? "accepted" : faultOutcome(refusal);
  };
  const places = [
    { at: "first", byte: 0 },
    { at: "middle", byte: body.length >> 1 },
    { at: "last", byte: body.length - 1 },
  ] as const;
  return {
    choice,
    mechanism,
    works: true,
    detail,
    ...gcmOf(kek, choice),
    flippedBits: places.map(({ at, byte }) => ({ at, outcome: refused(AAD, flip(body, byte)) })),
    flippedAad: refused(flip(AAD, 0), body),
    lengths: LENGTHS.map((bytes) => ({
      bytes,
      outcome: outcomeOfWork(() => {
        requireRoundTrip(session, kek, performer, bytes);
      }),
    })),
  };
}

function gcmOf({ discovered: { gcm } }: Kek, choice: MechanismChoice): Pick<MechanismTrial, "gcm"> {
  if (choice !== "aes-gcm" || gcm === undefined || gcm === null) return {};
  const { ckm, ivSent, ivBytes, ownFormat } = gcm;
  return { gcm: { ckm: `0x${ckm.toString(16)}`, ivSent, ivBytes, ownFormat } };
}

function flip(bytes: Buffer, at: number): Buffer {
  const flipped = Buffer.from(bytes);
  flipped[at] = (flipped[at] ?? 0) ^ 1;
  return flipped;
}

function requireRoundTrip(session: TokenSession, kek: Kek, performer: Performer, bytes: number): void {
  const text = Buffer.alloc(bytes, 0xa5);
  const body = performer.encrypt(session, kek, AAD, text);
  if (performer.decrypt(session, kek, AAD, body).equals(text)) return;
  throw new TokenFault("a round trip gave another text", { fault: "device", code: "KEY_UNSUITABLE" });
}
