// Fingerprints: a deterministic operation of the HSM over a fixed text, so that a key_id names the key's
// value without the value leaving. The texts are frozen. One AES block under the KEK is what CBC with a zero
// IV and ECB both compute; it meets a GCM counter block with a probability of 2^-96 per message (a random
// 96-bit IV would have to equal the text's first 12 bytes), and only a truncated SHA-256 of it is published.
import type { Handle } from "pkcs11js";
import pkcs11js from "pkcs11js";
import type { FingerprintMethod } from "../hsm/key-id.js";
import type { TokenSession } from "./session.js";
import type { TokenFault } from "./ckr.js";

const BLOCK = Buffer.from("kms-pkcs11 kcv 1");
const HMAC_TEXT = Buffer.from("kms-pkcs11 key fingerprint, version 1");
const GCM_TEXT = Buffer.from("kms-pkcs11 key fingerprint, version 1");
/** Reserved for the fingerprint; a random IV meets it with 2^-96. */
const GCM_RESERVED_IV_BYTES = 12;
const TAG_BYTES = 16;

export interface Fingerprint {
  readonly method: FingerprintMethod;
  readonly value: Buffer;
}

/** Every fingerprint that this AES key performs, the one that names it first; empty if there is none. */
export function fingerprintsOfAes(session: TokenSession, key: Handle): Fingerprint[] {
  const found: Fingerprint[] = [];
  const block = encryptBlock(session, key);
  if (block !== undefined) found.push({ method: "c", value: block });
  const sealed = sealReserved(session, key);
  if (sealed !== undefined) found.push({ method: "g", value: sealed });
  return found;
}

/** The fingerprint of an HMAC key, or none if the token cannot sign with it. */
export function fingerprintsOfHmac(session: TokenSession, key: Handle): Fingerprint[] {
  const signed = session.attempt("fingerprinting the key (C_Sign)", (handle) => {
    session.lib.C_SignInit(handle, { mechanism: pkcs11js.CKM_SHA256_HMAC }, key);
    return Buffer.from(session.lib.C_Sign(handle, HMAC_TEXT, Buffer.alloc(64)));
  });
  if (signed.ok) return signed.value.length === 32 ? [{ method: "s", value: signed.value }] : [];
  throwUnlessRefusal(signed.fault);
  return [];
}

function encryptBlock(session: TokenSession, key: Handle): Buffer | undefined {
  const modes = [
    { mechanism: pkcs11js.CKM_AES_CBC, parameter: Buffer.alloc(16) },
    { mechanism: pkcs11js.CKM_AES_ECB },
  ];
  for (const mechanism of modes) {
    const out = session.attempt("fingerprinting the key (C_Encrypt)", (handle) => {
      session.lib.C_EncryptInit(handle, mechanism, key);
      return Buffer.from(session.lib.C_Encrypt(handle, BLOCK, Buffer.alloc(64)));
    });
    if (out.ok && out.value.length === BLOCK.length) return out.value;
    if (!out.ok) throwUnlessRefusal(out.fault);
  }
  return undefined;
}

/** Only a token that honours the caller's IV gives the same bytes twice. */
function sealReserved(session: TokenSession, key: Handle): Buffer | undefined {
  const seal = (): Buffer | undefined => {
    const iv = Buffer.alloc(GCM_RESERVED_IV_BYTES);
    const parameter = { type: pkcs11js.CK_PARAMS_GCM, iv, ivBits: 96, aad: BLOCK, tagBits: 8 * TAG_BYTES };
    const out = session.attempt("fingerprinting the key (C_Encrypt)", (handle) => {
      session.lib.C_EncryptInit(handle, { mechanism: pkcs11js.CKM_AES_GCM, parameter }, key);
      return Buffer.from(session.lib.C_Encrypt(handle, GCM_TEXT, Buffer.alloc(128)));
    });
    if (!out.ok) throwUnlessRefusal(out.fault);
    if (!out.ok || out.value.length !== GCM_TEXT.length + TAG_BYTES || iv.some((byte) => byte !== 0))
      return undefined;
    return out.value;
  };
  const first = seal();
  return first !== undefined && seal()?.equals(first) === true ? first : undefined;
}

/** A mechanism or use that is refused means "no fingerprint this way"; anything else is a fault of its own. */
function throwUnlessRefusal(fault: TokenFault): void {
  const refusal =
    fault.fault === "setup" ||
    fault.fault === "input" ||
    fault.rv === 0x05 ||
    fault.rv === 0x06 ||
    fault.rv === 0x07;
  if (!refusal) throw fault;
}
