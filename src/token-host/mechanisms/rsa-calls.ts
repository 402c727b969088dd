// C_Decrypt with RSA-OAEP and C_Sign with RSA-PSS (PKCS#11 v2.40, sections 2.1.8 and 2.1.10 of the mechanisms; RFC
// 8017), and the same operations with a public key in this process. OAEP has no label: some tokens refuse one.
import { constants, createHash, publicEncrypt, verify } from "node:crypto";
import pkcs11js, { type Mechanism } from "pkcs11js";
import type { TokenFault } from "../ckr.js";
import type { Discovered, PssVariant, RsaKey } from "../kek.js";
import { isRefusal } from "../refusal.js";
import type { TokenSession } from "../session.js";

/** CKG_MGF1_SHA1, CKG_MGF1_SHA256 and CKZ_DATA_SPECIFIED. */
const MGF1_SHA1 = 1;
const MGF1_SHA256 = 2;
const DATA_SPECIFIED = 1;
const DIGEST_BYTES = 32;

/** The digest of OAEP and of its mask generation function. */
export type OaepDigest = "sha256" | "sha1";

const OAEP: Readonly<Record<OaepDigest, { readonly parameter: object; readonly overhead: number }>> = {
  sha256: { parameter: oaepParameter(pkcs11js.CKM_SHA256, MGF1_SHA256), overhead: 66 },
  sha1: { parameter: oaepParameter(pkcs11js.CKM_SHA_1, MGF1_SHA1), overhead: 42 },
};

const PSS_PARAMETER = {
  type: pkcs11js.CK_PARAMS_RSA_PSS,
  hashAlg: pkcs11js.CKM_SHA256,
  mgf: MGF1_SHA256,
  saltLen: DIGEST_BYTES,
};

function oaepParameter(hashAlg: number, mgf: number): object {
  return { type: pkcs11js.CK_PARAMS_RSA_OAEP, hashAlg, mgf, source: DATA_SPECIFIED };
}

/** Returns the longest plaintext in bytes that OAEP encrypts with this key. */
export function oaepCapacity(digest: OaepDigest, { modulus }: RsaKey): number {
  return modulus.length - OAEP[digest].overhead;
}

/** Encrypts in this process with the public key. */
export function oaepEncrypt(digest: OaepDigest, { publicKey: key }: RsaKey, plaintext: Uint8Array): Buffer {
  return publicEncrypt({ key, padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: digest }, plaintext);
}

/** Decrypts on the token; the caller zeroes the plaintext. @throws TokenFault */
export function oaepDecrypt(
  session: TokenSession,
  digest: OaepDigest,
  { handle: key, modulus }: RsaKey,
  ciphertext: Uint8Array,
): Buffer {
  const mechanism = { mechanism: pkcs11js.CKM_RSA_PKCS_OAEP, parameter: OAEP[digest].parameter } as Mechanism;
  return session.run("decrypting (C_Decrypt)", (handle) => {
    session.lib.C_DecryptInit(handle, mechanism, key);
    return session.lib.C_Decrypt(handle, Buffer.from(ciphertext), Buffer.alloc(modulus.length));
  });
}

/**
 * Signs on the token with RSA-PSS and SHA-256.
 * @param discovered remembers which of the two mechanisms the token performs
 * @throws TokenFault
 */
export function pssSign(
  session: TokenSession,
  { handle: key, modulus }: RsaKey,
  text: Buffer,
  discovered: Discovered,
): Buffer {
  const signAs = (variant: PssVariant) => (handle: Buffer) => {
    const mechanism = variant === "text" ? pkcs11js.CKM_SHA256_RSA_PKCS_PSS : pkcs11js.CKM_RSA_PKCS_PSS;
    session.lib.C_SignInit(handle, { mechanism, parameter: PSS_PARAMETER }, key);
    const signed = variant === "text" ? text : createHash("sha256").update(text).digest();
    return session.lib.C_Sign(handle, signed, Buffer.alloc(modulus.length));
  };
  const doing = "signing (C_Sign)";
  if (discovered.pss !== undefined) return session.run(doing, signAs(discovered.pss));
  let refusal: TokenFault | undefined;
  for (const variant of ["text", "digest"] as const) {
    const out = session.attempt(doing, signAs(variant));
    if (out.ok) {
      discovered.pss = variant;
      return out.value;
    }
    if (!isRefusal(out.fault)) throw out.fault;
    refusal ??= out.fault;
  }
  throw refusal as TokenFault;
}

/**
 * Verifies an RSA-PSS signature in this process. Its salt may have any length: TPM 2.0 makes it as long as possible.
 */
export function pssVerify({ publicKey: key }: RsaKey, text: Buffer, signature: Uint8Array): boolean {
  const saltLength = constants.RSA_PSS_SALTLEN_AUTO;
  return verify("sha256", text, { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength }, signature);
}
