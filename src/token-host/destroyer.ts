// Destroys KEKs. C_DestroyObject cannot be undone, so the deadline is checked immediately before each call, after
// everything that may be slow. PKCS#11 v2.40 section 5.7 (C_DestroyObject).
import { namesValue } from "../hsm/key-id.js";
import type { DestroyRequest } from "../hsm/wire-calls.js";
import { hasPassed } from "../hsm/wire-deadline.js";
import { TokenFault } from "./ckr.js";
import { keysOf, type Kek } from "./kek.js";
import { destroyPublicKeys } from "./rsa-public-objects.js";
import type { LaneKeyring } from "./lane-keyring.js";
import type { TokenSession } from "./session.js";

/**
 * Destroys every object of the KEKs with these key_ids that a new reading finds, and returns their number; finding none
 * is not an error.
 * @throws TokenFault if a call fails or the deadline has passed; the remaining objects are then untouched
 */
export function destroyKeks(session: TokenSession, keyring: LaneKeyring, request: DestroyRequest): number {
  keyring.readAll();
  return destroyObjects(session, keksNamed(keyring.all, request.keyIds), request);
}

/**
 * Returns the KEKs with one of these key_ids: a token may hold several objects with one key_id.
 * @throws TokenFault TOKEN_REFUSED if no fingerprint shows that several of them have one value
 */
function keksNamed(keks: readonly Kek[], keyIds: readonly string[]): Kek[] {
  const [keyId = ""] = keyIds;
  const named = keks.filter(({ record }) => keyIds.includes(record.keyId) || record.aliases.includes(keyId));
  if (named.length < 2 || namesValue(keyId)) return named;
  throw new TokenFault(
    `the token holds ${named.length} keys with key_id ${keyId}, and computes no fingerprint that shows whether they have one value; ` +
      "remove the unneeded one with the vendor's tool",
    { fault: "setup", code: "TOKEN_REFUSED" },
  );
}

function destroyObjects(session: TokenSession, keks: readonly Kek[], { notAfter }: DestroyRequest): number {
  const objects = keks.flatMap(keysOf);
  for (const [destroyed, object] of objects.entries()) {
    session.run("destroying a key (C_DestroyObject)", (handle) => {
      if (notAfter !== undefined && hasPassed(notAfter)) throw tooLate(notAfter.wallMs, destroyed);
      session.lib.C_DestroyObject(handle, object);
    });
  }
  for (const kek of keks) destroyPublicKeys(session, kek);
  return objects.length;
}

function tooLate(wallMs: number, destroyed: number): TokenFault {
  const left = destroyed === 0 ? "it was left as it is" : `${destroyed} of its objects were destroyed`;
  return new TokenFault(
    `the token was too slow: the KEK had to be destroyed by ${new Date(wallMs).toISOString()}; ${left}`,
    { fault: "setup", code: "TOKEN_REFUSED" },
  );
}
