// Fingerprints: a deterministic operation of the HSM over a fixed text, so that a key_id names the key's
// value without the value leaving. The texts are frozen. One AES block under the KEK is what CBC with a zero
// IV and ECB both compute; it meets a GCM counter block with a probability of 2^-96 per message (a random
// 96-bit IV would have to equal the text's first 12 bytes), and only a truncated SHA-256 of it is published.
import type { Handle } from "pkcs11js";
import pkcs11js from "pkcs11js";
import type { FingerprintMethod } from "../hsm/key-id.js";
import type { TokenSession } from "./session.js";
import { AlteredResult, isGeneralError, TokenFault } from "./ckr.js";
import { gcmEncrypt, IV_BYTES, TAG_BYTES } from "./mechanisms/gcm-call.js";
import { aesBlock, isRefusal, tryCall } from "./trial.js";

const DOING = "fingerprinting the key (C_Encrypt)";
const BLOCK = Buffer.from("kms-pkcs11 kcv 1");
const HMAC_TEXT = Buffer.from("kms-pkcs11 key fingerprint, version 1");
const GCM_TEXT = Buffer.from("kms-pkcs11 key fingerprint, version 1");

const NEVER_ALIKE = "the token computes a different fingerprint for the same key each time";

export interface Fingerprint {
  readonly method: FingerprintMethod;
  readonly value: Buffer;
}

/**
 * Every fingerprint that this AES key performs, the one that names it first; empty if the token refuses all.
 * @throws TokenFault when the token fails: a key must not get another name for that
 */
export function fingerprintsOfAes(session: TokenSession, key: Handle): Fingerprint[] {
  const found: Fingerprint[] = [];
  const block = agreed(() => aesBlock(session, key, BLOCK, DOING));
  if (block === undefined) throw new AlteredResult(NEVER_ALIKE);
  if (Buffer.isBuffer(block)) found.push({ method: "c", value: block });
  const sealed = sealReserved(session, key);
  if (Buffer.isBuffer(sealed)) found.push({ method: "g", value: sealed });
  if (found.length > 0) return found;
  const trouble = [block, sealed].flat().find((one) => one instanceof TokenFault && isGeneralError(one));
  if (trouble instanceof TokenFault) throw trouble;
  return [];
}

/** The fingerprint of an HMAC key, or none if the token cannot sign with it. */
export function fingerprintsOfHmac(session: TokenSession, key: Handle): Fingerprint[] {
  const value = agreed(() => {
    const signed = tryCall(session, "fingerprinting the key (C_Sign)", (handle) => {
      session.lib.C_SignInit(handle, { mechanism: pkcs11js.CKM_SHA256_HMAC }, key);
      return Buffer.from(session.lib.C_Sign(handle, HMAC_TEXT, Buffer.alloc(64)));
    });
    return signed.ok ? signed.value : signed.fault;
  });
  if (value === undefined) throw new AlteredResult(NEVER_ALIKE);
  if (Buffer.isBuffer(value)) return value.length === 32 ? [{ method: "s", value }] : [];
  if (!isRefusal(value) || isGeneralError(value)) throw value;
  return [];
}

/**
 * Returns the result on which two of up to three calls agree: an altered result would give the key a different name,
 * under which nothing could be decrypted. Undefined when no two agree; returns a failure at once.
 */
function agreed<T>(compute: () => Buffer | T): Buffer | T | undefined {
  const seen: Buffer[] = [];
  for (let tries = 0; tries < 3; tries++) {
    const out = compute();
    if (!Buffer.isBuffer(out) || seen.some((earlier) => earlier.equals(out))) return out;
    seen.push(out);
  }
  return undefined;
}

/** Only a token that honours the caller's IV gives the same bytes twice. Returns the refusal otherwise. */
function sealReserved(session: TokenSession, key: Handle): Buffer | TokenFault | undefined {
  return agreed(() => {
    // Reserved for the fingerprint; a random IV meets it with 2^-96.
    const iv = Buffer.alloc(IV_BYTES);
    const call = { ckm: pkcs11js.CKM_AES_GCM, iv, aad: BLOCK };
    const out = tryCall(session, DOING, (handle) =>
      Buffer.from(gcmEncrypt(session, handle, key, call, GCM_TEXT)),
    );
    if (!out.ok) {
      if (isRefusal(out.fault)) return out.fault;
      throw out.fault;
    }
    const asked = out.value.length === GCM_TEXT.length + TAG_BYTES && iv.every((byte) => byte === 0);
    return asked ? out.value : undefined;
  });
}
