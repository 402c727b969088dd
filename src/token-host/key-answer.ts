// Decides whether an error concerns one trial only: if so, the token still answers another call with the same key.
import type { TokenFault } from "./ckr.js";
import { fingerprintsOfAes, fingerprintsOfHmac, FingerprintMemory } from "./fingerprint.js";
import type { Kek } from "./kek.js";
import type { TokenSession } from "./session.js";

/** Requires that the key still computes its fingerprint after an error. @throws TokenFault the error, if it does not */
export function requireAnswer(session: TokenSession, { record, aes, hmac }: Kek, error: TokenFault): void {
  try {
    session.isLoggedIn();
    const found = [
      ...(aes === undefined ? [] : fingerprintsOfAes(session, aes, new FingerprintMemory())),
      ...(hmac === undefined ? [] : fingerprintsOfHmac(session, hmac)),
    ];
    // Some keys have none: they are named by their CKA_ID alone.
    if (found.length > 0 || !/\.[a-mo-z]/.test(record.keyId)) return;
  } catch {
    // The token is away, logged out, or lost the key.
  }
  throw error;
}
