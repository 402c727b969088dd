// AES key wrap with padding (RFC 5649, NIST SP 800-38F) over a digest of the associated data, the length and the
// plaintext: KWP takes no associated data, so its digest is wrapped with the plaintext and compared after unwrapping.
// Body: the wrapped bytes.
import { createHash, timingSafeEqual } from "node:crypto";
import type { Handle } from "pkcs11js";
import { TokenFault } from "../ckr.js";
import { aesKeyOf, type Kek } from "../kek.js";
import type { TokenSession } from "../session.js";
import { mayBeRefusal, tryCall } from "../refusal.js";
import { findKwpVariant, KWP_VARIANTS, kwpCalls, SEMIBLOCK_BYTES, type KwpVariant } from "./kwp-variant.js";
import type { Performer } from "./performer.js";

const DIGEST_BYTES = 32;
/** The plaintext's length: SoftHSM 2.6 returns an unwrapped key with its padding. */
const LENGTH_BYTES = 2;
const UNWRAPPING = "unwrapping (AES-KWP)";
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
  const wrapped = Buffer.from(body);
  const variant = unwrapVariantOf(session, kek, key);
  if (variant instanceof TokenFault) return decryptWithAny(session, kek, aad, wrapped, variant);
  const { unwrap } = kwpCalls(variant);
  const inner = session.run(UNWRAPPING, (handle) => unwrap(session, handle, key, wrapped));
  const text = textOf(inner, aad);
  if (text !== undefined) return text;
  throw otherUse();
}

/**
 * Decrypts under a key that may only unwrap, so that no round trip can find its variant. Uses the first variant that unwraps
 * the body to what was wrapped, and keeps it for later bodies.
 * @throws TokenFault why the token refuses the body; `unsupported` if it refuses every variant
 */
function decryptWithAny(
  session: TokenSession,
  kek: Kek,
  aad: Uint8Array,
  wrapped: Buffer,
  unsupported: TokenFault,
): Buffer {
  const key = aesKeyOf(kek);
  let refusal: TokenFault | undefined;
  for (const variant of KWP_VARIANTS) {
    const { unwrap } = kwpCalls(variant);
    const out = tryCall(session, UNWRAPPING, (handle) => unwrap(session, handle, key, wrapped));
    if (out.ok) {
      const text = textOf(out.value, aad);
      if (text === undefined) {
        refusal = otherUse();
        continue;
      }
      kek.discovered.kwpUnwraps = variant;
      return text;
    }
    if (!mayBeRefusal(out.fault)) throw out.fault;
    if (out.fault.fault !== "setup") refusal ??= out.fault;
  }
  throw refusal ?? unsupported;
}

function otherUse(): TokenFault {
  const text = "the ciphertext was made for another key_id or another use";
  return new TokenFault(text, { fault: "input", code: "NOT_AUTHENTIC" });
}

/** Returns the plaintext if it was wrapped with this associated data. Zeroes the unwrapped bytes. */
function textOf(inner: Buffer, aad: Uint8Array): Buffer | undefined {
  try {
    if (inner.length <= HEADER_BYTES) return undefined;
    if (!timingSafeEqual(inner.subarray(0, DIGEST_BYTES), digestOf(aad))) return undefined;
    const end = HEADER_BYTES + inner.readUInt16BE(DIGEST_BYTES);
    return end <= inner.length ? Buffer.from(inner.subarray(HEADER_BYTES, end)) : undefined;
  } finally {
    inner.fill(0);
  }
}

function digestOf(aad: Uint8Array): Buffer {
  return createHash("sha256").update("kms-pkcs11 aes-kwp v1").update(aad).digest();
}

function variantOf(session: TokenSession, kek: Kek, key: Handle): KwpVariant {
  return (kek.discovered.kwp ??= findKwpVariant(session, key));
}

/** Returns the variant to unwrap with, or the refusal if no round trip finds one. @throws TokenFault of a token that fails now */
function unwrapVariantOf(session: TokenSession, kek: Kek, key: Handle): KwpVariant | TokenFault {
  if (kek.discovered.kwpUnwraps !== undefined) return kek.discovered.kwpUnwraps;
  try {
    return variantOf(session, kek, key);
  } catch (error) {
    if (error instanceof TokenFault && error.code === "MECHANISM_UNSUPPORTED") return error;
    throw error;
  }
}
