// What a key object on the token becomes: a generation of the KEK with its name, its kind, and what is wrong with its
// attributes. An AES and an HMAC key that share label and CKA_ID are one generation. Handles are volatile: every
// reading proves each key again by its fingerprint, since a token that was away may reuse a handle number for another
// key.
import pkcs11js, { type Handle } from "pkcs11js";
import { makeKeyId } from "../hsm/key-id.js";
import type { KekKind } from "../hsm/mechanisms.js";
import type { KekRecord } from "../hsm/port.js";
import { asBoolean, asNumber } from "./attributes.js";
import {
  fingerprintsOfAes,
  fingerprintsOfHmac,
  type Fingerprint,
  type FingerprintMemory,
} from "./fingerprint.js";
import type { Kek } from "./kek.js";
import type { TokenSession } from "./session.js";
import { maskControls, truncate } from "../untrusted-text.js";

const KEK_BYTES = 32;
/** Bounds of a record's fields. A KEK's label has at most 32 characters; a key_id contains a digest of a long CKA_ID. */
const MAX_LABEL_SHOWN = 64;
const MAX_ID_BYTES_SHOWN = 64;

export const KEY_ATTRIBUTES = {
  keyType: pkcs11js.CKA_KEY_TYPE,
  id: pkcs11js.CKA_ID,
  token: pkcs11js.CKA_TOKEN,
  private: pkcs11js.CKA_PRIVATE,
  sensitive: pkcs11js.CKA_SENSITIVE,
  extractable: pkcs11js.CKA_EXTRACTABLE,
  valueLen: pkcs11js.CKA_VALUE_LEN,
  local: pkcs11js.CKA_LOCAL,
  neverExtractable: pkcs11js.CKA_NEVER_EXTRACTABLE,
  encrypt: pkcs11js.CKA_ENCRYPT,
  decrypt: pkcs11js.CKA_DECRYPT,
  wrap: pkcs11js.CKA_WRAP,
  unwrap: pkcs11js.CKA_UNWRAP,
  sign: pkcs11js.CKA_SIGN,
  verify: pkcs11js.CKA_VERIFY,
  derive: pkcs11js.CKA_DERIVE,
} as const;
export type AttributeName = keyof typeof KEY_ATTRIBUTES;

/** A key object that carries the KEK's name. */
export interface FoundKey {
  readonly handle: Handle;
  readonly label: string;
  readonly ckaId: Buffer;
  readonly kind: "aes" | "hmac";
  readonly attributes: ReadonlyMap<AttributeName, Buffer | undefined>;
}

/** Returns whether anybody who reaches the token, even without its PIN, may have made a key (CKA_PRIVATE is false). */
export function isPublic({ attributes }: FoundKey): boolean {
  return asBoolean(attributes.get("private")) === false;
}

/**
 * Pairs an AES key with the only HMAC key of the same label and CKA_ID; every other key is a generation of its own. A
 * public key is never paired with a private one: the pair would replace a KEK by a refused one.
 */
export function pairKeys(keys: readonly FoundKey[]): FoundKey[][] {
  const byName = new Map<string, FoundKey[]>();
  for (const key of keys) {
    const name = `${key.label}\0${key.ckaId.toString("hex")}\0${isPublic(key)}`;
    byName.set(name, [...(byName.get(name) ?? []), key]);
  }
  return [...byName.values()].flatMap((same) => {
    const kinds = same.map((key) => key.kind);
    return same.length === 2 && kinds.includes("aes") && kinds.includes("hmac")
      ? [same]
      : same.map((key) => [key]);
  });
}

/**
 * Returns one generation, named by the fingerprints that its keys perform.
 * @throws TokenFault when the token fails, so that it is unknown which fingerprints it performs
 */
export function nameGeneration(
  session: TokenSession,
  keys: readonly FoundKey[],
  memory: FingerprintMemory,
): Kek {
  const [first] = keys;
  if (first === undefined) throw new TypeError("a generation without keys");
  const aes = keys.find((key) => key.kind === "aes");
  const hmac = keys.find((key) => key.kind === "hmac");
  const keyIds = nameValues(
    first.ckaId,
    aes === undefined ? undefined : fingerprintsOfAes(session, aes.handle, memory),
    hmac === undefined ? undefined : fingerprintsOfHmac(session, hmac.handle),
  );
  const kind: KekKind = aes === undefined ? "hmac" : hmac === undefined ? "aes" : "aes+hmac";
  const record: KekRecord = {
    keyId: keyIds[0] ?? makeKeyId(first.ckaId, "n", Buffer.alloc(0)),
    aliases: keyIds.slice(1),
    label: truncate(maskControls(first.label), MAX_LABEL_SHOWN),
    ckaId: first.ckaId.toString("hex", 0, MAX_ID_BYTES_SHOWN),
    kind,
    unprotected: [...new Set(keys.flatMap(unprotected))],
    remarks: [...new Set(keys.flatMap(remarks))],
  };
  return { record, ...(aes && { aes: aes.handle }), ...(hmac && { hmac: hmac.handle }), discovered: {} };
}

function nameValues(
  ckaId: Buffer,
  aes: readonly Fingerprint[] | undefined,
  hmac: readonly Fingerprint[] | undefined,
): string[] {
  const single = [...(aes ?? []), ...(hmac ?? [])].map(({ method, value }) =>
    makeKeyId(ckaId, method, value),
  );
  const [ofAes] = aes ?? [];
  const [ofHmac] = hmac ?? [];
  if (ofAes === undefined || ofHmac === undefined) return single;
  return [makeKeyId(ckaId, "p", Buffer.concat([ofAes.value, ofHmac.value])), ...single];
}

function unprotected(key: FoundKey): string[] {
  const is = (name: AttributeName): boolean | undefined => asBoolean(key.attributes.get(name));
  return [
    ...(is("extractable") === true ? ["CKA_EXTRACTABLE is true"] : []),
    ...(is("sensitive") === false ? ["CKA_SENSITIVE is false"] : []),
    ...(is("private") === false ? ["CKA_PRIVATE is false"] : []),
  ];
}

const ALLOWED_USES = { aes: ["encrypt", "decrypt"], hmac: ["sign", "verify"] } as const;
const ALL_USES = ["encrypt", "decrypt", "wrap", "unwrap", "sign", "verify", "derive"] as const;

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

function remarks(key: FoundKey): string[] {
  const allowed: readonly string[] = ALLOWED_USES[key.kind];
  const excess = ALL_USES.filter(
    (use) => !allowed.includes(use) && asBoolean(key.attributes.get(use)) === true,
  );
  const bytes = asNumber(key.attributes.get("valueLen"));
  return [
    ...excess.map((use) => `CKA_${use.toUpperCase()} is true`),
    ...(isImported(key) ? [NOT_LOCAL] : []),
    ...(bytes !== undefined && bytes < KEK_BYTES ? [`the key has ${8 * bytes} bits, not 256`] : []),
  ];
}
