// AES-256-GCM in the HSM (NIST SP 800-38D; PKCS#11 v3.0 section 6.13). Whoever makes the IV, the body is
// the same: u8 IV length | IV | ciphertext | 16-byte tag.
import pkcs11js from "pkcs11js";
import type { MechanismName } from "../../hsm/mechanisms.js";
import { AlteredResult, isGeneralError, TokenFault } from "../ckr.js";
import { aesKeyOf, type Kek } from "../kek.js";
import type { TokenSession } from "../session.js";
import { gcmDecrypt, gcmEncrypt, IV_BYTES, TAG_BYTES } from "./gcm-call.js";
import { decryptCall, findGcmDialect, makeIv, type GcmDialect } from "./gcm-dialect.js";
import type { Performer } from "./performer.js";

/** How a key that may only decrypt is used: the IV in the parameters, as the standard has it. */
const STANDARD: GcmDialect = {
  mechanism: "aes-gcm",
  ckm: pkcs11js.CKM_AES_GCM,
  ivSent: "random",
  ivBytes: IV_BYTES,
  ownFormat: false,
};

/** Tries AES-GCM, once a key and thread unless the outcome leaves a doubt. */
function tryOnce(session: TokenSession, kek: Kek): { dialect: GcmDialect | null; doubt?: TokenFault } {
  const { discovered } = kek;
  if (discovered.gcm !== undefined) return { dialect: discovered.gcm };
  if (kek.aes === undefined) return { dialect: null };
  const trial = findGcmDialect(session, kek.aes);
  if ("dialect" in trial) return { dialect: (discovered.gcm = trial.dialect) };
  if (trial.doubt !== undefined) return { dialect: null, doubt: trial.doubt };
  return { dialect: (discovered.gcm = null) };
}

/** Returns the dialect found by trial; null where AES-GCM does not work with this key, for now at least. */
export function dialectOf(session: TokenSession, kek: Kek): GcmDialect | null {
  return tryOnce(session, kek).dialect;
}

export function aesGcm(mechanism: MechanismName): Performer {
  return {
    encrypt: (session, kek, aad, plaintext) => encrypt(mechanism, session, kek, aad, plaintext),
    decrypt,
  };
}

function encrypt(
  mechanism: MechanismName,
  session: TokenSession,
  kek: Kek,
  aad: Uint8Array,
  plaintext: Uint8Array,
): Buffer {
  const key = kek.aes;
  const { dialect, doubt } = tryOnce(session, kek);
  if (doubt !== undefined && !isGeneralError(doubt)) throw doubt;
  if (key === undefined || dialect === null || dialect.mechanism !== mechanism) {
    throw new TokenFault(`the token does not perform ${mechanism} with this KEK`, {
      fault: "setup",
      code: "MECHANISM_UNSUPPORTED",
    });
  }
  const { iv, raw } = session.run("encrypting (C_Encrypt)", (handle) => {
    const fresh = makeIv(dialect.ivSent);
    return {
      iv: fresh,
      raw: gcmEncrypt(session, handle, key, { ckm: dialect.ckm, iv: fresh, aad }, plaintext),
    };
  });
  return bodyOf(dialect, iv, raw, plaintext.length);
}

/** Reads the token's output; a length that does not fit would mean a missing tag or another IV mode. */
function bodyOf(dialect: GcmDialect, iv: Buffer, raw: Buffer, plaintextBytes: number): Buffer {
  const sealedBytes = plaintextBytes + TAG_BYTES;
  const carried = dialect.mechanism === "aes-gcm-iv-appended" || dialect.mechanism === "aes-gcm-iv-prepended";
  if (raw.length !== sealedBytes + (carried ? dialect.ivBytes : 0)) {
    throw new AlteredResult(
      `the token's AES-GCM output has ${raw.length} bytes for ${plaintextBytes}; nothing is returned without its tag`,
    );
  }
  const untouched = dialect.mechanism === "aes-gcm-iv-written" && iv.every((byte) => byte === 0);
  if (untouched) throw new AlteredResult("the token no longer writes its IV back");
  switch (dialect.mechanism) {
    case "aes-gcm-iv-appended":
      return Buffer.concat([
        Buffer.of(dialect.ivBytes),
        raw.subarray(sealedBytes),
        raw.subarray(0, sealedBytes),
      ]);
    case "aes-gcm-iv-prepended":
      return Buffer.concat([Buffer.of(dialect.ivBytes), raw]);
    default:
      return Buffer.concat([Buffer.of(iv.length), iv, raw]);
  }
}

function decrypt(session: TokenSession, kek: Kek, aad: Uint8Array, body: Uint8Array): Buffer {
  const key = aesKeyOf(kek);
  const ivBytes = body[0];
  if ((ivBytes !== 12 && ivBytes !== 16) || body.length < 1 + ivBytes + TAG_BYTES + 1) {
    throw new TokenFault("the ciphertext is not laid out as AES-GCM makes it", {
      fault: "input",
      code: "INPUT_INVALID",
    });
  }
  const iv = body.subarray(1, 1 + ivBytes);
  const sealed = body.subarray(1 + ivBytes);
  const { call, data } = decryptCall(dialectOf(session, kek) ?? STANDARD, iv, sealed, aad);
  const plaintext = session.run("decrypting (C_Decrypt)", (handle) =>
    gcmDecrypt(session, handle, key, call, data),
  );
  if (plaintext.length === sealed.length - TAG_BYTES) return plaintext;
  plaintext.fill(0);
  throw new AlteredResult("the token returned a plaintext of a different length than was encrypted");
}
