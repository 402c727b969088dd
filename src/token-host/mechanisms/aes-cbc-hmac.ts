// Encrypt-then-MAC with two keys in the HSM: AES-256-CBC with a random IV, then HMAC-SHA-256 over associated
// data, IV and ciphertext, checked in constant time before anything is decrypted.
// Body: IV (16) | ciphertext | MAC (32). Padding is PKCS#7 (RFC 5652 section 6.3), done here, so that the
// token needs CKM_AES_CBC only.
import { randomBytes, timingSafeEqual } from "node:crypto";
import pkcs11js from "pkcs11js";
import { AlteredResult, TokenFault } from "../ckr.js";
import { aesKeyOf, type Kek } from "../kek.js";
import type { TokenSession } from "../session.js";
import { framed, hmacSign } from "./hmac-sign.js";
import type { Performer } from "./performer.js";

const LABEL = Buffer.from("kms-pkcs11 aes-cbc-hmac v1");
const BLOCK_BYTES = 16;
const MAC_BYTES = 32;

/** Performs AES-CBC with HMAC. */
export const aesCbcHmac: Performer = { encrypt, decrypt };

function mac(session: TokenSession, kek: Kek, aad: Uint8Array, ivAndSealed: Uint8Array): Buffer {
  return hmacSign(session, kek, [LABEL, framed(aad), framed(ivAndSealed)]);
}

function encrypt(session: TokenSession, kek: Kek, aad: Uint8Array, plaintext: Uint8Array): Buffer {
  const key = aesKeyOf(kek);
  const padding = BLOCK_BYTES - (plaintext.length % BLOCK_BYTES);
  const padded = Buffer.concat([plaintext, Buffer.alloc(padding, padding)]);
  const iv = randomBytes(BLOCK_BYTES);
  try {
    const sealed = session.run("encrypting (C_Encrypt)", (handle) => {
      session.lib.C_EncryptInit(handle, { mechanism: pkcs11js.CKM_AES_CBC, parameter: iv }, key);
      return session.lib.C_Encrypt(handle, padded, Buffer.alloc(padded.length + BLOCK_BYTES));
    });
    if (sealed.length !== padded.length) {
      throw new AlteredResult("the token's AES-CBC output differs in length from its input");
    }
    const ivAndSealed = Buffer.concat([iv, sealed]);
    return Buffer.concat([ivAndSealed, mac(session, kek, aad, ivAndSealed)]);
  } finally {
    padded.fill(0);
  }
}

function decrypt(session: TokenSession, kek: Kek, aad: Uint8Array, body: Uint8Array): Buffer {
  const key = aesKeyOf(kek);
  const sealedBytes = body.length - BLOCK_BYTES - MAC_BYTES;
  if (sealedBytes < BLOCK_BYTES || sealedBytes % BLOCK_BYTES !== 0) {
    throw new TokenFault("the ciphertext is not laid out as aes-cbc-hmac makes it", {
      fault: "input",
      code: "INPUT_INVALID",
    });
  }
  const ivAndSealed = body.subarray(0, body.length - MAC_BYTES);
  if (!timingSafeEqual(mac(session, kek, aad, ivAndSealed), body.subarray(body.length - MAC_BYTES))) {
    throw new TokenFault("the ciphertext does not authenticate under this KEK", {
      fault: "input",
      code: "NOT_AUTHENTIC",
    });
  }
  const iv = Buffer.from(ivAndSealed.subarray(0, BLOCK_BYTES));
  const sealed = Buffer.from(ivAndSealed.subarray(BLOCK_BYTES));
  const padded = session.run("decrypting (C_Decrypt)", (handle) => {
    session.lib.C_DecryptInit(handle, { mechanism: pkcs11js.CKM_AES_CBC, parameter: iv }, key);
    return session.lib.C_Decrypt(handle, sealed, Buffer.alloc(sealed.length + BLOCK_BYTES));
  });
  return unpadded(padded);
}

/** The MAC has been verified, so a bad padding is the token's error and not a padding oracle. */
function unpadded(padded: Buffer): Buffer {
  const padding = padded.at(-1) ?? 0;
  if (padding >= 1 && padding <= BLOCK_BYTES && padding < padded.length) {
    const plaintext = Buffer.from(padded.subarray(0, padded.length - padding));
    padded.fill(0);
    return plaintext;
  }
  padded.fill(0);
  throw new AlteredResult("the token's AES-CBC plaintext is not what was encrypted");
}
