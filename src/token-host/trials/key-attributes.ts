// Which attributes of its keys a token shows, one by one. Values that are not numbers or booleans are given as lengths.
import pkcs11js, { type Handle } from "pkcs11js";
import type { AttributeTrial } from "../../hsm/wire-trials.js";
import { asNumber } from "../attributes.js";
import { RSA_KEY_ATTRIBUTES, SECRET_KEY_ATTRIBUTES } from "../found-key.js";
import type { Kek } from "../kek.js";
import type { TokenSession } from "../session.js";
import { attributeName } from "./attribute-names.js";
import { outcomeOf } from "./outcome.js";

const NUMBERS: readonly number[] = [pkcs11js.CKA_CLASS, pkcs11js.CKA_KEY_TYPE, pkcs11js.CKA_VALUE_LEN];
const BYTES: readonly number[] = [
  pkcs11js.CKA_LABEL,
  pkcs11js.CKA_ID,
  pkcs11js.CKA_MODULUS,
  pkcs11js.CKA_PUBLIC_EXPONENT,
];

/** Reads every attribute that the plugin reads, of the first key of a KEK. Throws nothing. */
export function tryAttributes(session: TokenSession, kek: Kek): readonly AttributeTrial[] {
  const rsa = kek.decrypts?.handle;
  const key = rsa ?? kek.aes ?? kek.hmac;
  if (key === undefined) return [];
  const kind = rsa !== undefined ? "rsa" : kek.aes !== undefined ? "aes" : "hmac";
  const read = Object.values(rsa === undefined ? SECRET_KEY_ATTRIBUTES : RSA_KEY_ATTRIBUTES);
  const types = [pkcs11js.CKA_CLASS, pkcs11js.CKA_LABEL, ...read];
  const together = session.attempt("reading attributes (C_GetAttributeValue)", (handle) =>
    session.lib.C_GetAttributeValue(
      handle,
      key,
      types.map((type) => ({ type })),
    ),
  );
  return [
    ...types.map((type) => ({ kind, ...tryAttribute(session, key, type) }) as const),
    { kind, attribute: "all at once", outcome: outcomeOf(together) },
  ];
}

function tryAttribute(session: TokenSession, key: Handle, type: number): Omit<AttributeTrial, "kind"> {
  const read = session.attempt("reading an attribute (C_GetAttributeValue)", (handle) =>
    session.lib.C_GetAttributeValue(handle, key, [{ type }]),
  );
  const value = read.ok ? read.value[0]?.value : undefined;
  const shown = Buffer.isBuffer(value) ? show(type, value) : undefined;
  return {
    attribute: attributeName(type),
    outcome: outcomeOf(read),
    ...(shown !== undefined && { value: shown }),
  };
}

function show(type: number, value: Buffer): string {
  if (BYTES.includes(type)) return `${value.length} bytes`;
  if (NUMBERS.includes(type)) return String(asNumber(value) ?? "unavailable");
  return value.length === 1 ? String(value[0] !== 0) : `${value.length} bytes`;
}
