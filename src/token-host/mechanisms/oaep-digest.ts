// Finds the digest that a token uses for OAEP: SHA-256, or SHA-1 if it refuses that. Tokens report the refusal with
// very different codes, including those of temporary errors, and some use SHA-1 whatever is requested. So SHA-1 is
// chosen only if it works and SHA-256 fails each time.
import { randomBytes } from "node:crypto";
import { TokenFault } from "../ckr.js";
import type { Kek, RsaKey } from "../kek.js";
import { mayBeRefusal } from "../refusal.js";
import type { TokenSession } from "../session.js";
import { oaepDecrypt, oaepEncrypt, type OaepDigest } from "./rsa-calls.js";
import type { OaepMechanism } from "./rsa-oaep.js";

const ROUNDS = 3;
const TEXT_BYTES = 32;

/**
 * Returns the mechanism that a KEK performs, found by test decryptions; "rsa-oaep" if none.
 * @throws TokenFault when the token is away or logged out
 */
export function oaepMechanismOf(session: TokenSession, { decrypts }: Kek): OaepMechanism {
  if (decrypts === undefined) return "rsa-oaep";
  for (let round = 0; round < ROUNDS; round++) {
    if (decryptsWith(session, "sha256", decrypts) || !decryptsWith(session, "sha1", decrypts)) {
      return "rsa-oaep";
    }
  }
  return "rsa-oaep-sha1";
}

function decryptsWith(session: TokenSession, digest: OaepDigest, key: RsaKey): boolean {
  const text = randomBytes(TEXT_BYTES);
  try {
    return oaepDecrypt(session, digest, key, oaepEncrypt(digest, key, text)).equals(text);
  } catch (error) {
    if (error instanceof TokenFault && mayBeRefusal(error)) return false;
    throw error;
  }
}
