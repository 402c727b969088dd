// Tests what a key and its token actually perform: by a round trip and by the refusal of a flipped bit, not by the
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
import { requireAnswer } from "./key-answer.js";
import { oaepMechanismOf } from "./mechanisms/oaep-digest.js";
import { PERFORMERS } from "./mechanisms/table.js";
import { isRefusal } from "./refusal.js";
import type { TokenSession } from "./session.js";

const KNOWN_TEXT = Buffer.from("kms-pkcs11 self-test: 32 bytes..");
const AAD = Buffer.from("kms-pkcs11 self-test");
/**
 * Attempts before an error that does not plainly refuse counts as a refusal. After each of them the token must answer
 * another call. If the error is temporary, sooner or later the trial succeeds or that call fails.
 */
const ATTEMPTS = 6;

/** What an operator should know about a mechanism that works. */
const NOTES: Partial<Record<MechanismName, string>> = {
  "rsa-oaep-sha1": "; OAEP uses SHA-1, since the token refuses SHA-256",
};

/**
 * Tests one mechanism, or all in order of preference until one works, and returns the results. A refusal is a result,
 * and so is any other error of a trial after which the key still answers.
 * @throws TokenFault when the token is away or logged out
 */
export function probe(session: TokenSession, kek: Kek, choice: MechanismChoice | "auto"): ProbeResult[] {
  const results: ProbeResult[] = [];
  for (const one of choice === "auto" ? MECHANISM_CHOICES : [choice]) {
    const result = probeOne(session, kek, one);
    results.push(result);
    if (result.works) break;
  }
  return results;
}

function probeOne(session: TokenSession, kek: Kek, choice: MechanismChoice): ProbeResult {
  const { kinds } = mechanismByName(choice);
  if (!kinds.includes(kek.record.kind)) {
    return { mechanism: choice, works: false, detail: `needs a KEK of kind ${kinds.join(" or ")}` };
  }
  let mechanism: MechanismName = choice;
  for (let attempts = 1; ; attempts++) {
    try {
      if (choice === "rsa-oaep") mechanism = oaepMechanismOf(session, kek);
      if (choice === "aes-gcm") mechanism = ivModeOf(session, kek)?.mechanism ?? choice;
      roundTrip(session, kek, mechanism);
      return {
        mechanism,
        works: true,
        detail: `round trip done, a flipped bit refused${NOTES[mechanism] ?? ""}`,
      };
    } catch (error) {
      if (!(error instanceof TokenFault)) throw error;
      // A refusal repeats; an altered result does not.
      if (error.fault !== "setup") {
        requireAnswer(session, kek, error);
        if (attempts < ATTEMPTS) continue;
      }
      return { mechanism, works: false, detail: error.finding };
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
  if (refusalOf(session, kek, () => performer.decrypt(session, kek, AAD, flipped)) === undefined) {
    throw new TokenFault("a flipped bit was not refused", { fault: "device", code: "KEY_UNSUITABLE" });
  }
}

/**
 * Returns the fault with which a tampered body is refused; undefined if it is accepted. Kryoptic 1.5.4 refuses a flipped
 * bit under AES-KWP with CKR_DEVICE_ERROR.
 * @throws TokenFault when the token is away or logged out
 */
export function refusalOf(session: TokenSession, kek: Kek, decrypt: () => Buffer): TokenFault | undefined {
  try {
    decrypt().fill(0);
    return undefined;
  } catch (error) {
    if (!(error instanceof TokenFault)) throw error;
    if (!isRefusal(error)) requireAnswer(session, kek, error);
    return error;
  }
}
