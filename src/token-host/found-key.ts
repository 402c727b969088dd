// A key object that carries the KEK's name: its attributes, and what is wrong with them.
import pkcs11js, { type Handle } from "pkcs11js";
import { DECRYPT_ONLY, PUBLIC_KEY } from "../hsm/port.js";
import { maskControls, truncate } from "../untrusted-text.js";
import { asBoolean } from "./attributes.js";

/**
 * Bounds of a record's fields. A KEK's label has at most 32 characters; a key_id contains a digest of a long CKA_ID.
 */
const MAX_LABEL_SHOWN = 64;
const MAX_ID_BYTES_SHOWN = 64;

const COMMON_ATTRIBUTES = {
  keyType: pkcs11js.CKA_KEY_TYPE,
  id: pkcs11js.CKA_ID,
  token: pkcs11js.CKA_TOKEN,
  private: pkcs11js.CKA_PRIVATE,
  sensitive: pkcs11js.CKA_SENSITIVE,
  extractable: pkcs11js.CKA_EXTRACTABLE,
  local: pkcs11js.CKA_LOCAL,
  neverExtractable: pkcs11js.CKA_NEVER_EXTRACTABLE,
  decrypt: pkcs11js.CKA_DECRYPT,
  unwrap: pkcs11js.CKA_UNWRAP,
  sign: pkcs11js.CKA_SIGN,
  derive: pkcs11js.CKA_DERIVE,
} as const;

/** The attributes that are read of a secret key. */
export const SECRET_KEY_ATTRIBUTES = {
  ...COMMON_ATTRIBUTES,
  valueLen: pkcs11js.CKA_VALUE_LEN,
  encrypt: pkcs11js.CKA_ENCRYPT,
  wrap: pkcs11js.CKA_WRAP,
  verify: pkcs11js.CKA_VERIFY,
} as const;

/** The attributes that are read of an RSA private key. */
export const RSA_KEY_ATTRIBUTES = {
  ...COMMON_ATTRIBUTES,
  signRecover: pkcs11js.CKA_SIGN_RECOVER,
  modulus: pkcs11js.CKA_MODULUS,
  publicExponent: pkcs11js.CKA_PUBLIC_EXPONENT,
} as const;

/** The name of an attribute in either table. */
export type AttributeName = keyof typeof SECRET_KEY_ATTRIBUTES | keyof typeof RSA_KEY_ATTRIBUTES;

/** A secret key, or the private key of an RSA key pair. */
export interface FoundKey {
  readonly handle: Handle;
  readonly label: string;
  readonly ckaId: Buffer;
  readonly kind: "aes" | "hmac" | "rsa";
  readonly attributes: ReadonlyMap<AttributeName, Buffer | undefined>;
}

/** Returns the label and CKA_ID of a key as its record shows them. */
export function shownName({ label, ckaId }: FoundKey): { readonly label: string; readonly ckaId: string } {
  return {
    label: truncate(maskControls(label), MAX_LABEL_SHOWN),
    ckaId: ckaId.toString("hex", 0, MAX_ID_BYTES_SHOWN),
  };
}

/** Returns whether anybody who reaches the token, even without its PIN, may have made a key (CKA_PRIVATE is false). */
export function isPublic({ attributes }: FoundKey): boolean {
  return asBoolean(attributes.get("private")) === false;
}

/** Returns what forbids the use of a key. */
export function unprotected(key: FoundKey): string[] {
  const is = (name: AttributeName): boolean | undefined => asBoolean(key.attributes.get(name));
  return [
    ...(is("extractable") === true ? ["CKA_EXTRACTABLE is true"] : []),
    ...(is("sensitive") === false ? ["CKA_SENSITIVE is false"] : []),
    ...(is("private") === false ? [PUBLIC_KEY] : []),
  ];
}

const USES = {
  encrypt: "CKA_ENCRYPT",
  decrypt: "CKA_DECRYPT",
  wrap: "CKA_WRAP",
  unwrap: "CKA_UNWRAP",
  sign: "CKA_SIGN",
  signRecover: "CKA_SIGN_RECOVER",
  verify: "CKA_VERIFY",
  derive: "CKA_DERIVE",
} as const;
type Use = keyof typeof USES;

/** The remark about a key that was not generated on its token. */
export const NOT_LOCAL = "CKA_LOCAL is false: the key was not made in the HSM";

/**
 * Returns whether a key was brought to the token from outside. NSS 3.87 reports CKA_LOCAL false for keys that it has
 * generated; CKA_NEVER_EXTRACTABLE, which is true only if CKA_LOCAL is, then contradicts it (section 4.9).
 */
function isImported({ attributes }: FoundKey): boolean {
  const isLocal = asBoolean(attributes.get("local"));
  return isLocal === false && asBoolean(attributes.get("neverExtractable")) !== true;
}

/** Returns shortcomings of a key that do not forbid its use. @param allowed what the key is for */
export function remarks(key: FoundKey, allowed: readonly Use[]): string[] {
  const uses = Object.keys(USES) as Use[];
  const excess = uses.filter((use) => !allowed.includes(use) && asBoolean(key.attributes.get(use)) === true);
  return [...excessOf(excess), ...(isImported(key) ? [NOT_LOCAL] : [])];
}

/** Returns a remark about an AES key that may neither encrypt nor wrap. */
export function limitOfUse({ attributes }: FoundKey): string[] {
  const isFalse = (use: Use): boolean => asBoolean(attributes.get(use)) === false;
  return isFalse("encrypt") && isFalse("wrap") ? [DECRYPT_ONLY] : [];
}

/** Returns what to do about uses that a KEK does not need; some tokens add uses to every key that they make. */
function excessOf(uses: readonly Use[]): string[] {
  if (uses.length === 0) return [];
  const isOfKwp = (use: Use): boolean => use === "wrap" || use === "unwrap";
  const parts = [
    ...reason(uses.filter(isOfKwp), "only the mechanism aes-kwp needs"),
    ...reason(
      uses.filter((use) => !isOfKwp(use)),
      "a KEK does not need",
    ),
  ];
  const them = uses.length === 1 ? "it" : "them";
  return [`${parts.join("; ")}; 'keys rotate' makes a KEK without ${them}, if the token allows that`];
}

function reason(uses: readonly Use[], why: string): string[] {
  const names = uses.map((use) => USES[use]).join(" and ");
  if (uses.length === 0) return [];
  return [uses.length === 1 ? `${names} is true: ${why} it` : `${names} are true: ${why} them`];
}
