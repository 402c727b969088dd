// C_Encrypt and C_Decrypt with AES-GCM in one part. The 128-bit tag is always requested, and callers check the output's
// length: with tagBits 0, pkcs11js 2.1.7 makes SoftHSM 2.6 encrypt without a tag and without an error.
import pkcs11js, { type Handle, type Mechanism } from "pkcs11js";
import type { TokenSession } from "../session.js";

/** Length of the authentication tag. */
export const TAG_BYTES = 16;
/** Length of an IV that the plugin makes. */
export const IV_BYTES = 12;
/** Output bytes beyond the input: tag, IV, and a margin for libraries that require one more block. */
const SLACK_BYTES = 64;

/** The parameters of one AES-GCM call. */
export interface GcmCall {
  readonly ckm: number;
  /** Written in place by tokens that make the IV. */
  readonly iv: Buffer;
  readonly aad: Uint8Array;
}

function mechanismOf(call: GcmCall): Mechanism {
  const aad = Buffer.from(call.aad.buffer, call.aad.byteOffset, call.aad.byteLength);
  // CK_PARAMS_AES_GCM would leave ulIvBits uninitialised.
  const parameter = {
    type: pkcs11js.CK_PARAMS_GCM,
    iv: call.iv,
    ivBits: 8 * (call.iv.length === 0 ? IV_BYTES : call.iv.length),
    aad,
    tagBits: 8 * TAG_BYTES,
  };
  return { mechanism: call.ckm, parameter };
}

/** Returns the token's output; its layout depends on the IV mode. */
export function gcmEncrypt(
  session: TokenSession,
  handle: Handle,
  key: Handle,
  call: GcmCall,
  data: Uint8Array,
): Buffer {
  session.lib.C_EncryptInit(handle, mechanismOf(call), key);
  const input = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  return session.lib.C_Encrypt(handle, input, Buffer.alloc(data.length + SLACK_BYTES));
}

/** Returns the plaintext; the caller checks its length. */
export function gcmDecrypt(
  session: TokenSession,
  handle: Handle,
  key: Handle,
  call: GcmCall,
  data: Uint8Array,
): Buffer {
  session.lib.C_DecryptInit(handle, mechanismOf(call), key);
  const input = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  return session.lib.C_Decrypt(handle, input, Buffer.alloc(data.length + SLACK_BYTES));
}
