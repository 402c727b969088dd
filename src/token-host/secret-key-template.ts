// Templates for C_GenerateKey: what a KEK of each kind must be, what it should be, and which of these attributes tokens
// refuse. Every use that the plugin does not need is explicitly false, since some tokens default it to true. PKCS#11
// v2.40 sections 4.9 and 5.13.
import pkcs11js, { type Attribute } from "pkcs11js";

/** Length of every secret key that the plugin makes: 256 bits. */
export const KEY_BYTES = 32;

/** The secret key to make. */
export interface WantedKey {
  readonly label: string;
  readonly id?: Buffer;
  readonly onToken: boolean;
}

/**
 * Returns a template for every combination of the attributes that a token may refuse, the full one first. The least
 * important attribute is left out first: whether the key can be modified, the CKA_ID (tokens with short ids choose one
 * themselves), the uses set to false, the length.
 */
export function templates(
  kind: "aes" | "hmac",
  keyType: number,
  wraps: boolean,
  wanted: WantedKey,
): Attribute[][] {
  const needed = neededAttributes(kind, keyType, wraps, wanted);
  const optional: Attribute[][] = [
    [{ type: pkcs11js.CKA_MODIFIABLE, value: false }],
    ...(wanted.id === undefined ? [] : [[{ type: pkcs11js.CKA_ID, value: wanted.id }]]),
    refusedUses(kind, wraps),
    [{ type: pkcs11js.CKA_VALUE_LEN, value: KEY_BYTES }],
  ];
  return Array.from({ length: 2 ** optional.length }, (_, dropped) => [
    ...needed,
    ...optional.flatMap((attributes, at) => ((dropped >> at) & 1 ? [] : attributes)),
  ]);
}

function neededAttributes(
  kind: "aes" | "hmac",
  keyType: number,
  wraps: boolean,
  wanted: WantedKey,
): Attribute[] {
  const yes = (type: number): Attribute => ({ type, value: true });
  const uses =
    kind === "aes"
      ? [
          pkcs11js.CKA_ENCRYPT,
          pkcs11js.CKA_DECRYPT,
          ...(wraps ? [pkcs11js.CKA_WRAP, pkcs11js.CKA_UNWRAP] : []),
        ]
      : [pkcs11js.CKA_SIGN];
  return [
    { type: pkcs11js.CKA_CLASS, value: pkcs11js.CKO_SECRET_KEY },
    { type: pkcs11js.CKA_KEY_TYPE, value: keyType },
    { type: pkcs11js.CKA_LABEL, value: wanted.label },
    { type: pkcs11js.CKA_TOKEN, value: wanted.onToken },
    yes(pkcs11js.CKA_PRIVATE),
    yes(pkcs11js.CKA_SENSITIVE),
    { type: pkcs11js.CKA_EXTRACTABLE, value: false },
    ...uses.map(yes),
  ];
}

function refusedUses(kind: "aes" | "hmac", wraps: boolean): Attribute[] {
  const types =
    kind === "aes"
      ? [
          ...(wraps ? [] : [pkcs11js.CKA_WRAP, pkcs11js.CKA_UNWRAP]),
          pkcs11js.CKA_SIGN,
          pkcs11js.CKA_VERIFY,
          pkcs11js.CKA_DERIVE,
        ]
      : [
          pkcs11js.CKA_ENCRYPT,
          pkcs11js.CKA_DECRYPT,
          pkcs11js.CKA_WRAP,
          pkcs11js.CKA_UNWRAP,
          pkcs11js.CKA_VERIFY,
          pkcs11js.CKA_DERIVE,
        ];
  return types.map((type) => ({ type, value: false }));
}
