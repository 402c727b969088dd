// C_Sign with CKM_SHA256_HMAC (PKCS#11 v2.40 section 2.22 of the mechanisms): the keyed operation that nearly
// every token performs.
import pkcs11js from "pkcs11js";
import { AlteredResult, TokenFault } from "../ckr.js";
import type { Kek } from "../kek.js";
import type { TokenSession } from "../session.js";

const HMAC_BYTES = 32;

/** Returns HMAC-SHA-256 of the parts under the KEK's HMAC key; 32 bytes that the caller zeroes if secret. */
export function hmacSign(session: TokenSession, kek: Kek, parts: readonly Uint8Array[]): Buffer {
  const key = kek.hmac;
  if (key === undefined) {
    throw new TokenFault("this KEK has no HMAC key", { fault: "setup", code: "MECHANISM_UNSUPPORTED" });
  }
  const text = Buffer.concat(parts);
  const out = session.run("computing an HMAC (C_Sign)", (handle) => {
    session.lib.C_SignInit(handle, { mechanism: pkcs11js.CKM_SHA256_HMAC }, key);
    return session.lib.C_Sign(handle, text, Buffer.alloc(2 * HMAC_BYTES));
  });
  if (out.length === HMAC_BYTES) return out;
  throw new AlteredResult(`the token's HMAC-SHA-256 has ${out.length} bytes`);
}

/** Returns a part preceded by its length, so that no two lists of parts give the same text. */
export function framed(part: Uint8Array): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(part.length);
  return Buffer.concat([length, part]);
}
