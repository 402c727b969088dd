// What a key and its token actually perform: proven by a round trip and by the refusal of a flipped bit, not by the
// token's mechanism list. Nothing is stored on the token.
import {
  MECHANISM_CHOICES,
  mechanismByName,
  type MechanismChoice,
  type MechanismName,
} from "../hsm/mechanisms.js";
import type { ProbeResult } from "../hsm/port.js";
import { TokenFault } from "./ckr.js";
import type { Kek } from "./kek.js";
import { ivModeOf } from "./mechanisms/aes-gcm.js";
import { PERFORMERS } from "./mechanisms/table.js";
import type { TokenSession } from "./session.js";

const KNOWN_TEXT = Buffer.from("kms-pkcs11 self-test: 32 bytes..");
const AAD = Buffer.from("kms-pkcs11 self-test");
const TRIES = 2;

/**
 * Tests one mechanism, or all in order of preference, and returns the results; a refusal is a result.
 * @throws TokenFault when the token is away or logged out
 */
export function probe(session: TokenSession, kek: Kek, choice: MechanismChoice | "auto"): ProbeResult[] {
  const choices = choice === "auto" ? MECHANISM_CHOICES : [choice];
  return choices.map((one) => probeOne(session, kek, nameOf(session, kek, one)));
}

function nameOf(session: TokenSession, kek: Kek, choice: MechanismChoice): MechanismName {
  return choice === "aes-gcm" ? (ivModeOf(session, kek)?.mechanism ?? "aes-gcm") : choice;
}

function probeOne(session: TokenSession, kek: Kek, mechanism: MechanismName): ProbeResult {
  const { kinds } = mechanismByName(mechanism);
  if (!kinds.includes(kek.record.kind)) {
    return { mechanism, works: false, detail: `needs a KEK of kind ${kinds.join(" or ")}` };
  }
  for (let tries = 1; ; tries++) {
    try {
      roundTrip(session, kek, mechanism);
      return { mechanism, works: true, detail: "round trip done, a flipped bit refused" };
    } catch (error) {
      if (!(error instanceof TokenFault) || isAway(error)) throw error;
      // A refusal repeats; an altered result does not.
      if (error.fault !== "setup" && tries < TRIES) continue;
      return { mechanism, works: false, detail: error.message };
    }
  }
}

function roundTrip(session: TokenSession, kek: Kek, mechanism: MechanismName): void {
  const performer = PERFORMERS[mechanism];
  const body = performer.encrypt(session, kek, AAD, KNOWN_TEXT);
  if (!performer.decrypt(session, kek, AAD, body).equals(KNOWN_TEXT)) {
    throw new TokenFault("a round trip gave another text", { fault: "device", code: "KEY_UNSUITABLE" });
  }
  const flipped = Buffer.from(body);
  flipped[body.length - 1] = (flipped[body.length - 1] ?? 0) ^ 1;
  if (opens(() => performer.decrypt(session, kek, AAD, flipped))) {
    throw new TokenFault("a flipped bit was not refused", { fault: "device", code: "KEY_UNSUITABLE" });
  }
}

function opens(decrypt: () => Buffer): boolean {
  try {
    decrypt();
    return true;
  } catch (error) {
    if (error instanceof TokenFault && isAway(error)) throw error;
    return false;
  }
}

/** An error of a token that is away or logged out says nothing about the mechanism. */
function isAway(fault: TokenFault): boolean {
  const removed = fault.rv === 0x30 || fault.rv === 0x32 || fault.rv === 0xe0 || fault.rv === 0x190;
  return (
    removed ||
    fault.fault === "login" ||
    fault.fault === "object" ||
    fault.fault === "session" ||
    fault.fault === "capacity"
  );
}
