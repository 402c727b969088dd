// How a token performs AES key wrap with padding, found by trial: by C_Encrypt where it offers it so, else by
// wrapping a session object.
import pkcs11js, { type Handle, type Mechanism } from "pkcs11js";
import { TokenFault } from "../ckr.js";
import type { TokenSession } from "../session.js";
import { mayBeRefusal, tryCall } from "../trial.js";

/** CKM_AES_KEY_WRAP_KWP of v3.0; CKM_AES_KEY_WRAP_PAD, which is RFC 5649 on some tokens and PKCS#7 on others. */
const KWP_NUMBERS = [0x210b, 0x210a] as const;
export const SEMIBLOCK_BYTES = 8;

type Way = (session: TokenSession, handle: Handle, key: Handle, bytes: Buffer) => Buffer;

/** How a token wraps. */
export interface KwpWay {
  readonly wrap: Way;
  readonly unwrap: Way;
}

/** Two lengths tell RFC 5649 from PKCS#7 padding under RFC 3394: 24 bytes give 32 here and 40 there. */
const TRIAL_TEXT = Buffer.alloc(24, 0x5a);
/** Tries per way: an altered result does not rule a way out. */
const TRIES = 2;

/** @throws TokenFault MECHANISM_UNSUPPORTED, or why the token cannot be asked now */
export function findWay(session: TokenSession, key: Handle): KwpWay {
  let refusal = "";
  for (const ckm of KWP_NUMBERS) {
    for (const way of [byEncrypt(ckm), byWrap(ckm)]) {
      const outcome = tryWay(session, key, way);
      if (outcome === true) return way;
      if (outcome !== false) refusal = outcome.message;
    }
  }
  throw new TokenFault(
    `the token does not perform AES-KWP with this KEK${refusal === "" ? "" : `: ${refusal}`}`,
    { fault: "setup", code: "MECHANISM_UNSUPPORTED" },
  );
}

/** Returns whether a text comes back as it was, or the refusal. */
function tryWay(session: TokenSession, key: Handle, way: KwpWay): boolean | TokenFault {
  let refusal: TokenFault | undefined;
  for (let tries = 0; tries < TRIES; tries++) {
    const out = tryCall(session, "trying AES-KWP", (handle) => way.wrap(session, handle, key, TRIAL_TEXT));
    const wrapped =
      out.ok && out.value.length === TRIAL_TEXT.length + SEMIBLOCK_BYTES ? out.value : undefined;
    const back =
      wrapped && tryCall(session, "trying AES-KWP", (handle) => way.unwrap(session, handle, key, wrapped));
    if (back?.ok === true && back.value.equals(TRIAL_TEXT)) return true;
    for (const tried of [out, back]) {
      if (tried === undefined || tried.ok) continue;
      if (!mayBeRefusal(tried.fault)) throw tried.fault;
      refusal = tried.fault;
    }
    if (!out.ok) break;
  }
  return refusal ?? false;
}

function byEncrypt(ckm: number): KwpWay {
  const mechanism: Mechanism = { mechanism: ckm };
  return {
    wrap: ({ lib }, handle, key, bytes) => {
      lib.C_EncryptInit(handle, mechanism, key);
      return lib.C_Encrypt(handle, bytes, Buffer.alloc(bytes.length + 64));
    },
    unwrap: ({ lib }, handle, key, bytes) => {
      lib.C_DecryptInit(handle, mechanism, key);
      return lib.C_Decrypt(handle, bytes, Buffer.alloc(bytes.length + 64));
    },
  };
}

/** The bytes become a session object for as long as the call takes. */
function byWrap(ckm: number): KwpWay {
  const mechanism: Mechanism = { mechanism: ckm };
  return {
    wrap: ({ lib }, handle, key, bytes) => {
      const object = lib.C_CreateObject(handle, [
        ...carrierTemplate(),
        { type: pkcs11js.CKA_VALUE, value: bytes },
      ]);
      try {
        return lib.C_WrapKey(handle, mechanism, key, object, Buffer.alloc(bytes.length + 64));
      } finally {
        lib.C_DestroyObject(handle, object);
      }
    },
    unwrap: ({ lib }, handle, key, bytes) => {
      const object = lib.C_UnwrapKey(handle, mechanism, key, bytes, carrierTemplate());
      try {
        const [value] = lib.C_GetAttributeValue(handle, object, [{ type: pkcs11js.CKA_VALUE }]);
        return Buffer.isBuffer(value?.value) ? value.value : Buffer.alloc(0);
      } finally {
        lib.C_DestroyObject(handle, object);
      }
    },
  };
}

function carrierTemplate(): { type: number; value: number | boolean }[] {
  return [
    { type: pkcs11js.CKA_CLASS, value: pkcs11js.CKO_SECRET_KEY },
    { type: pkcs11js.CKA_KEY_TYPE, value: pkcs11js.CKK_GENERIC_SECRET },
    { type: pkcs11js.CKA_TOKEN, value: false },
    { type: pkcs11js.CKA_PRIVATE, value: true },
    { type: pkcs11js.CKA_SENSITIVE, value: false },
    { type: pkcs11js.CKA_EXTRACTABLE, value: true },
  ];
}
