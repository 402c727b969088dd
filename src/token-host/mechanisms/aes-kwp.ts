// AES key wrap with padding (RFC 5649, NIST SP 800-38F) over a digest of the associated data, the length and the
// plaintext: KWP takes no associated data, so its digest is wrapped with the plaintext and compared after unwrapping.
// Body: the wrapped bytes.
import { createHash, timingSafeEqual } from "node:crypto";
import type { Handle } from "pkcs11js";
import { TokenFault } from "../ckr.js";
import { aesKeyOf, type Kek } from "../kek.js";
import type { TokenSession } from "../session.js";
import { findKwpVariant, kwpCalls, SEMIBLOCK_BYTES, type KwpVariant } from "./kwp-variant.js";
import type { Performer } from "./performer.js";

const DIGEST_BYTES = 32;
/** The plaintext's length: SoftHSM 2.6 returns an unwrapped key with its padding. */
const LENGTH_BYTES = 2;
const HEADER_BYTES = DIGEST_BYTES + LENGTH_BYTES;

/** Performs AES key wrap with padding. */
export const aesKwp: Performer = { encrypt, decrypt };

function encrypt(session: TokenSession, kek: Kek, aad: Uint8Array, plaintext: Uint8Array): Buffer {
  const key = aesKeyOf(kek);
  const { wrap } = kwpCalls(variantOf(session, kek, key));
  const length = Buffer.alloc(LENGTH_BYTES);
  length.writeUInt16BE(plaintext.length);
  const inner = Buffer.concat([digestOf(aad), length, plaintext]);
  try {
    return session.run("wrapping (AES-KWP)", (handle) => wrap(session, handle, key, inner));
  } finally {
    inner.fill(0);
  }
}

function decrypt(session: TokenSession, kek: Kek, aad: Uint8Array, body: Uint8Array): Buffer {
  if (body.length % SEMIBLOCK_BYTES !== 0 || body.length < DIGEST_BYTES + 2 * SEMIBLOCK_BYTES) {
    throw new TokenFault("the ciphertext is not laid out as aes-kwp makes it", {
      fault: "input",
      code: "INPUT_INVALID",
    });
  }
  const key = aesKeyOf(kek);
  const { unwrap } = kwpCalls(variantOf(session, kek, key));
  const inner = session.run("unwrapping (AES-KWP)", (handle) =>
    unwrap(session, handle, key, Buffer.from(body)),
  );
  try {
    if (inner.length > HEADER_BYTES && timingSafeEqual(inner.subarray(0, DIGEST_BYTES), digestOf(aad))) {
      const end = HEADER_BYTES + inner.readUInt16BE(DIGEST_BYTES);
      if (end <= inner.length) return Buffer.from(inner.subarray(HEADER_BYTES, end));
    }
  } finally {
    inner.fill(0);
  }
  throw new TokenFault("the ciphertext was made for another key_id or another use", {
    fault: "input",
    code: "NOT_AUTHENTIC",
  });
}

function digestOf(aad: Uint8Array): Buffer {
  return createHash("sha256").update("kms-pkcs11 aes-kwp v1").update(aad).digest();
}

function variantOf(session: TokenSession, kek: Kek, key: Handle): KwpVariant {
  return (kek.discovered.kwp ??= findKwpVariant(session, key));
}
