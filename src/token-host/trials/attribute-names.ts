// Names of the attributes that the plugin sends and reads, as a report states them.
import pkcs11js, { type Attribute } from "pkcs11js";

const NAMES = [
  "CKA_CLASS",
  "CKA_TOKEN",
  "CKA_PRIVATE",
  "CKA_LABEL",
  "CKA_KEY_TYPE",
  "CKA_ID",
  "CKA_SENSITIVE",
  "CKA_ENCRYPT",
  "CKA_DECRYPT",
  "CKA_WRAP",
  "CKA_UNWRAP",
  "CKA_SIGN",
  "CKA_SIGN_RECOVER",
  "CKA_VERIFY",
  "CKA_DERIVE",
  "CKA_MODULUS",
  "CKA_PUBLIC_EXPONENT",
  "CKA_VALUE_LEN",
  "CKA_EXTRACTABLE",
  "CKA_LOCAL",
  "CKA_NEVER_EXTRACTABLE",
  "CKA_MODIFIABLE",
] as const;

const BY_TYPE = new Map<number, string>(NAMES.map((name) => [pkcs11js[name], name]));

/** Returns the name of an attribute type, or its number. */
export function attributeName(type: number): string {
  return BY_TYPE.get(type) ?? `0x${type.toString(16)}`;
}

/** Returns an attribute of a template, such as "CKA_TOKEN=false". */
export function formatAttribute({ type, value }: Attribute): string {
  const shown = Buffer.isBuffer(value) ? `${value.length} bytes` : String(value);
  return `${attributeName(type)}=${shown}`;
}
