// AES-256-GCM in this process (NIST SP 800-38D) with random 96-bit IVs: IV (12) | ciphertext | tag (16). Keys are
// KeyObjects: with a raw key Node 24 takes four times as long.
import { createCipheriv, createDecipheriv, randomBytes, type KeyObject } from "node:crypto";

const CIPHER = "aes-256-gcm";
const IV_BYTES = 12;
const TAG_BYTES = 16;
const OPTIONS = { authTagLength: TAG_BYTES };

/** Encrypts and authenticates a plaintext, with associated data. */
export function sealUnder(key: KeyObject, aad: Uint8Array, plaintext: Uint8Array): Buffer {
  const iv = randomBytes(IV_BYTES);
  const cipher = createCipheriv(CIPHER, key, iv, OPTIONS).setAAD(aad);
  return Buffer.concat([iv, cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
}

/** Returns the plaintext in a buffer that belongs to the caller; undefined if `sealed` does not authenticate. */
export function openSealed(key: KeyObject, aad: Uint8Array, sealed: Uint8Array): Buffer | undefined {
  const tagAt = sealed.length - TAG_BYTES;
  const decipher = createDecipheriv(CIPHER, key, sealed.subarray(0, IV_BYTES), OPTIONS);
  decipher.setAAD(aad).setAuthTag(sealed.subarray(tagAt));
  const plaintext = decipher.update(sealed.subarray(IV_BYTES, tagAt));
  try {
    decipher.final();
    return plaintext;
  } catch {
    plaintext.fill(0);
    return undefined;
  }
}
