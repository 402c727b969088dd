// Finds how a token performs AES key wrap with padding (RFC 5649): with C_Encrypt and C_Decrypt, or with C_WrapKey and
// C_UnwrapKey on a session object; and under which mechanism number.
import pkcs11js, { type Handle, type Mechanism } from "pkcs11js";
import { rowOf } from "../ckr-table.js";
import { TokenFault } from "../ckr.js";
import type { TokenSession } from "../session.js";
import { isRefusal, mayBeRefusal, tryCall } from "../refusal.js";

/** CKM_AES_KEY_WRAP_KWP of v3.0; CKM_AES_KEY_WRAP_PAD, which is RFC 5649 on some tokens and PKCS#7 on others. */
export const KWP_NUMBERS = [0x210b, 0x210a] as const;
/** Block length of AES key wrap (RFC 3394). */
export const SEMIBLOCK_BYTES = 8;

/** The calls that wrap and unwrap bytes on a token. */
export interface KwpVariant {
  readonly ckm: number;
  readonly by: "C_Encrypt" | "C_WrapKey";
}

/** All variants, in the order in which they are tried. */
export const KWP_VARIANTS: readonly KwpVariant[] = KWP_NUMBERS.flatMap((ckm) => [
  { ckm, by: "C_Encrypt" },
  { ckm, by: "C_WrapKey" },
]);

type WrapCall = (session: TokenSession, handle: Handle, key: Handle, bytes: Buffer) => Buffer;

interface WrapCalls {
  readonly wrap: WrapCall;
  readonly unwrap: WrapCall;
}

/** Returns the functions that make the calls of a variant. */
export function kwpCalls({ ckm, by }: KwpVariant): WrapCalls {
  return by === "C_Encrypt" ? byEncrypt(ckm) : byWrap(ckm);
}

/** The wrapped length distinguishes RFC 5649 (32 bytes) from PKCS#7 padding under RFC 3394 (40 bytes). */
const KNOWN_TEXT = Buffer.alloc(24, 0x5a);
/** Attempts per variant: an altered result does not rule it out. */
const ATTEMPTS = 2;

/**
 * Returns the first variant that works with this key.
 * @throws TokenFault MECHANISM_UNSUPPORTED, or the fault of a token that fails now
 */
export function findKwpVariant(session: TokenSession, key: Handle): KwpVariant {
  let refusal = "";
  let broken: TokenFault | undefined;
  for (const variant of KWP_VARIANTS) {
    const outcome = tryVariant(session, key, variant);
    if (outcome === true) return variant;
    if (outcome === false) continue;
    refusal = outcome.rv === undefined ? outcome.finding : rowOf(outcome.rv).name;
    if (!isRefusal(outcome)) broken ??= outcome;
  }
  if (broken !== undefined) throw broken;
  throw new TokenFault(
    `the token does not perform AES-KWP with this KEK${refusal === "" ? "" : `: ${refusal}`}`,
    { fault: "setup", code: "MECHANISM_UNSUPPORTED" },
  );
}

/** Returns whether a round trip gives the same text, or why the token refused. */
function tryVariant(session: TokenSession, key: Handle, variant: KwpVariant): boolean | TokenFault {
  const { wrap, unwrap } = kwpCalls(variant);
  let refusal: TokenFault | undefined;
  for (let attempts = 0; attempts < ATTEMPTS; attempts++) {
    const out = tryCall(session, "trying AES-KWP", (handle) => wrap(session, handle, key, KNOWN_TEXT));
    const wrapped =
      out.ok && out.value.length === KNOWN_TEXT.length + SEMIBLOCK_BYTES ? out.value : undefined;
    const back =
      wrapped && tryCall(session, "trying AES-KWP", (handle) => unwrap(session, handle, key, wrapped));
    if (back?.ok === true && back.value.equals(KNOWN_TEXT)) return true;
    for (const tried of [out, back]) {
      if (tried === undefined || tried.ok) continue;
      if (!mayBeRefusal(tried.fault)) throw tried.fault;
      refusal = tried.fault;
    }
    if (!out.ok) break;
  }
  return refusal ?? false;
}

function byEncrypt(ckm: number): WrapCalls {
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

/** The bytes are the value of a session object during the call. */
function byWrap(ckm: number): WrapCalls {
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
