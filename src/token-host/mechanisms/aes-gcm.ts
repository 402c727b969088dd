// AES-256-GCM in the HSM (NIST SP 800-38D; PKCS#11 v3.0 section 6.13). The body is the same in every IV mode:
// u8 IV length | IV | ciphertext | 16-byte tag.
import pkcs11js from "pkcs11js";
import type { MechanismName } from "../../hsm/mechanisms.js";
import { AlteredResult, isGeneralError, TokenFault } from "../ckr.js";
import { aesKeyOf, type Kek } from "../kek.js";
import { requireAnswer } from "../key-answer.js";
import type { TokenSession } from "../session.js";
import { gcmDecrypt, gcmEncrypt, IV_BYTES, TAG_BYTES } from "./gcm-call.js";
import { decryptCall, makeIv, type GcmIvMode } from "./gcm-iv-mode.js";
import { findGcmIvMode, hasGcmIvMode } from "./gcm-iv-search.js";
import type { Performer } from "./performer.js";

/** For a key that may only decrypt, with which no mode can be found: the IV in the parameters, as in the standard. */
const STANDARD: GcmIvMode = {
  mechanism: "aes-gcm",
  ckm: pkcs11js.CKM_AES_GCM,
  ivSent: "random",
  ivBytes: IV_BYTES,
  ownFormat: false,
};

/** The mode that a key of the token was found to have, for each lane: other keys are likely to have it too. */
const LIKELY = new WeakMap<TokenSession, GcmIvMode>();

/** Finds the IV mode, once per key and lane unless the outcome is unclear. */
function findMode(session: TokenSession, kek: Kek): { mode: GcmIvMode | null; unclear?: TokenFault } {
  const { discovered } = kek;
  if (discovered.gcm !== undefined) return { mode: discovered.gcm };
  if (kek.aes === undefined) return { mode: null };
  const likely = LIKELY.get(session);
  if (likely !== undefined && hasGcmIvMode(session, kek.aes, likely)) {
    return { mode: (discovered.gcm = likely) };
  }
  const result = findGcmIvMode(session, kek.aes);
  if ("mode" in result) {
    LIKELY.set(session, result.mode);
    return { mode: (discovered.gcm = result.mode) };
  }
  if (result.unclear !== undefined) return { mode: null, unclear: result.unclear };
  return { mode: (discovered.gcm = null) };
}

/** Returns the IV mode; null if AES-GCM does not work with this key, or not at the moment. */
export function ivModeOf(session: TokenSession, kek: Kek): GcmIvMode | null {
  return findMode(session, kek).mode;
}

/** Returns the performer of AES-GCM in one IV mode. */
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
  const { mode, unclear } = findMode(session, kek);
  if (unclear !== undefined) {
    if (!isGeneralError(unclear)) throw unclear;
    // A token that lacks the mechanism may return a general error; a broken one returns it for every call.
    requireAnswer(session, kek, unclear);
  }
  if (key === undefined || mode === null || mode.mechanism !== mechanism) {
    throw new TokenFault(`the token does not perform ${mechanism} with this KEK`, {
      fault: "setup",
      code: "MECHANISM_UNSUPPORTED",
    });
  }
  const { iv, raw } = session.run("encrypting (C_Encrypt)", (handle) => {
    const fresh = makeIv(mode.ivSent);
    return {
      iv: fresh,
      raw: gcmEncrypt(session, handle, key, { ckm: mode.ckm, iv: fresh, aad }, plaintext),
    };
  });
  return bodyOf(mode, iv, raw, plaintext.length);
}

/** Lays out the body from the token's output. An unexpected length means a missing tag or another IV mode. */
function bodyOf(mode: GcmIvMode, iv: Buffer, raw: Buffer, plaintextBytes: number): Buffer {
  const sealedBytes = plaintextBytes + TAG_BYTES;
  const carried = mode.mechanism === "aes-gcm-iv-appended" || mode.mechanism === "aes-gcm-iv-prepended";
  if (raw.length !== sealedBytes + (carried ? mode.ivBytes : 0)) {
    throw new AlteredResult(
      `the token's AES-GCM output has ${raw.length} bytes for ${plaintextBytes}; nothing is returned without its tag`,
    );
  }
  const untouched = mode.mechanism === "aes-gcm-iv-written" && iv.every((byte) => byte === 0);
  if (untouched) throw new AlteredResult("the token no longer writes its IV back");
  switch (mode.mechanism) {
    case "aes-gcm-iv-appended":
      return Buffer.concat([
        Buffer.of(mode.ivBytes),
        raw.subarray(sealedBytes),
        raw.subarray(0, sealedBytes),
      ]);
    case "aes-gcm-iv-prepended":
      return Buffer.concat([Buffer.of(mode.ivBytes), raw]);
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
  const { call, data } = decryptCall(ivModeOf(session, kek) ?? STANDARD, iv, sealed, aad);
  const plaintext = session.run("decrypting (C_Decrypt)", (handle) =>
    gcmDecrypt(session, handle, key, call, data),
  );
  if (plaintext.length === sealed.length - TAG_BYTES) return plaintext;
  plaintext.fill(0);
  throw new AlteredResult("the token returned a plaintext of a different length than was encrypted");
}
