// Derives a key for one message in the HSM and uses AES-256-GCM in this process: k = HMAC-SHA-256(KEK, label,
// associated data, 32-byte nonce), the KDF in counter mode of NIST SP 800-108r1 section 4.1, one block. Exposes the key
// of one DEK seed, never the KEK. Body: nonce (32) | IV (12) | ciphertext | tag (16).
import { createCipheriv, createDecipheriv, createSecretKey, randomBytes, type KeyObject } from "node:crypto";
import { TokenFault } from "../ckr.js";
import type { Kek } from "../kek.js";
import type { TokenSession } from "../session.js";
import { framed, hmacSign } from "./hmac-sign.js";
import type { Performer } from "./performer.js";

const LABEL = Buffer.from("kms-pkcs11 hmac-kdf v1");
const COUNTER_AND_BITS = { counter: Buffer.of(0, 0, 0, 1), bits: Buffer.of(0, 0, 1, 0) };
const NONCE_BYTES = 32;
const IV_BYTES = 12;
const TAG_BYTES = 16;

/** Performs AES-GCM under a key derived with HMAC in the HSM. */
export const hmacKdf: Performer = { opensHere: true, encrypt, decrypt };

function deriveKey(session: TokenSession, kek: Kek, aad: Uint8Array, nonce: Uint8Array): KeyObject {
  const { counter, bits } = COUNTER_AND_BITS;
  const bytes = hmacSign(session, kek, [counter, LABEL, Buffer.of(0), framed(aad), nonce, bits]);
  const key = createSecretKey(bytes);
  bytes.fill(0);
  return key;
}

function encrypt(session: TokenSession, kek: Kek, aad: Uint8Array, plaintext: Uint8Array): Buffer {
  const nonce = randomBytes(NONCE_BYTES);
  const iv = randomBytes(IV_BYTES);
  const key = deriveKey(session, kek, aad, nonce);
  const cipher = createCipheriv("aes-256-gcm", key, iv, { authTagLength: TAG_BYTES });
  cipher.setAAD(aad);
  const sealed = Buffer.concat([cipher.update(plaintext), cipher.final()]);
  return Buffer.concat([nonce, iv, sealed, cipher.getAuthTag()]);
}

function decrypt(session: TokenSession, kek: Kek, aad: Uint8Array, body: Uint8Array): Buffer {
  if (body.length < NONCE_BYTES + IV_BYTES + TAG_BYTES + 1) {
    throw new TokenFault("the ciphertext is not laid out as hmac-kdf makes it", {
      fault: "input",
      code: "INPUT_INVALID",
    });
  }
  const nonce = body.subarray(0, NONCE_BYTES);
  const iv = body.subarray(NONCE_BYTES, NONCE_BYTES + IV_BYTES);
  const tagAt = body.length - TAG_BYTES;
  const key = deriveKey(session, kek, aad, nonce);
  const decipher = createDecipheriv("aes-256-gcm", key, iv, { authTagLength: TAG_BYTES });
  decipher.setAAD(aad);
  decipher.setAuthTag(body.subarray(tagAt));
  const plaintext = decipher.update(body.subarray(NONCE_BYTES + IV_BYTES, tagAt));
  try {
    decipher.final();
  } catch (error) {
    plaintext.fill(0);
    throw new TokenFault("the ciphertext does not authenticate under this KEK", {
      fault: "input",
      code: "NOT_AUTHENTIC",
      cause: error,
    });
  }
  return plaintext;
}
