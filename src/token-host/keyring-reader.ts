// Finds the generations of the KEK on the token and names them: every AES or HMAC secret key whose label is
// the object name, or the object name and an activation instant after "@". An AES and an HMAC key that share
// label and CKA_ID are one generation. Handles are volatile: every reading proves each key again by its
// fingerprint, since a token that was away may reuse a handle number for another key.
import pkcs11js, { type Attribute, type Handle } from "pkcs11js";
import { makeKeyId } from "../hsm/key-id.js";
import type { KekKind } from "../hsm/mechanisms.js";
import type { KekRecord } from "../hsm/wire.js";
import { asBoolean, asNumber, readAttributes, readSteadily } from "./attributes.js";
import { TokenFault } from "./ckr.js";
import { fingerprintsOfAes, fingerprintsOfHmac, type Fingerprint } from "./fingerprint.js";
import { CKK_SHA256_HMAC, type Kek } from "./kek.js";
import { printable, unpad } from "./module.js";
import type { TokenSession } from "./session.js";

const KEK_BYTES = 32;
const FIND_BATCH = 64;
/**
 * SoftHSM 2.6.1 lets other processes find a key that is being made, and gives it default attributes when they read any:
 * the maker's own are lost then, its value included. A key is on the token (CKA_TOKEN) only once all of them are there.
 */
const ON_TOKEN: readonly Attribute[] = [
  { type: pkcs11js.CKA_CLASS, value: pkcs11js.CKO_SECRET_KEY },
  { type: pkcs11js.CKA_TOKEN, value: true },
];
/** More keys of one name than any schedule has; their records fit one frame of the wire. */
const MAX_KEYS = 1_000;
/** Of what a record shows. A label that is a KEK's has at most 32 characters; a key_id digests a long CKA_ID. */
const MAX_LABEL_SHOWN = 64;
const MAX_ID_BYTES_SHOWN = 64;

const ATTRIBUTES = {
  keyType: pkcs11js.CKA_KEY_TYPE,
  id: pkcs11js.CKA_ID,
  token: pkcs11js.CKA_TOKEN,
  private: pkcs11js.CKA_PRIVATE,
  sensitive: pkcs11js.CKA_SENSITIVE,
  extractable: pkcs11js.CKA_EXTRACTABLE,
  valueLen: pkcs11js.CKA_VALUE_LEN,
  local: pkcs11js.CKA_LOCAL,
  encrypt: pkcs11js.CKA_ENCRYPT,
  decrypt: pkcs11js.CKA_DECRYPT,
  wrap: pkcs11js.CKA_WRAP,
  unwrap: pkcs11js.CKA_UNWRAP,
  sign: pkcs11js.CKA_SIGN,
  verify: pkcs11js.CKA_VERIFY,
  derive: pkcs11js.CKA_DERIVE,
} as const;
type AttributeName = keyof typeof ATTRIBUTES;

interface FoundKey {
  readonly handle: Handle;
  readonly label: string;
  readonly ckaId: Buffer;
  readonly kind: "aes" | "hmac";
  readonly attributes: ReadonlyMap<AttributeName, Buffer | undefined>;
}

export interface WantedKeys {
  readonly objectName: string;
  /** CKA_ID in hex. */
  readonly ckaId?: string;
  readonly loginRequired: boolean;
}

/**
 * Reads all generations.
 * @throws TokenFault `login` when the application is logged out, since private keys are then not found
 * without any error
 */
export function readKeyring(session: TokenSession, wanted: WantedKeys): Kek[] {
  const found = findSecretKeys(session)
    .map((handle) => describe(session, handle, wanted))
    .filter((key) => key !== undefined);
  if (wanted.loginRequired && !session.isLoggedIn()) {
    throw new TokenFault("login", "SESSION_LOST", "the token host is logged out of the token");
  }
  if (found.length > MAX_KEYS) {
    throw new TokenFault(
      "setup",
      "KEY_AMBIGUOUS",
      `the token holds ${String(found.length)} keys named "${wanted.objectName}", more than the ${String(MAX_KEYS)} that are read; destroy those that are not needed`,
    );
  }
  return group(found).map((keys) => nameGeneration(session, keys));
}

function findSecretKeys(session: TokenSession): Handle[] {
  const { lib } = session;
  return session.run("looking for keys (C_FindObjects)", (handle) => {
    lib.C_FindObjectsInit(handle, [...ON_TOKEN]);
    const objects: Handle[] = [];
    for (;;) {
      const batch = lib.C_FindObjects(handle, FIND_BATCH);
      if (batch.length === 0) break;
      objects.push(...batch);
    }
    lib.C_FindObjectsFinal(handle);
    return objects;
  });
}

/** Whether a CKA_LABEL belongs to the KEK of this name: the name alone, or the name, "@" and an instant. */
function isOurs(label: string, objectName: string): boolean {
  return label === objectName || label.startsWith(objectName + "@");
}

function describe(session: TokenSession, object: Handle, wanted: WantedKeys): FoundKey | undefined {
  if (!isOurs(labelIn(readAttributes(session, object, [pkcs11js.CKA_LABEL])), wanted.objectName))
    return undefined;
  const names = Object.keys(ATTRIBUTES) as AttributeName[];
  const values = readSteadily(session, object, [pkcs11js.CKA_LABEL, ...Object.values(ATTRIBUTES)]);
  const label = labelIn(values);
  if (!isOurs(label, wanted.objectName)) return undefined;
  const attributes = new Map(names.map((name) => [name, values.get(ATTRIBUTES[name])]));
  const ckaId = attributes.get("id") ?? Buffer.alloc(0);
  const kind = kindOf(asNumber(attributes.get("keyType")));
  if (kind === undefined || asBoolean(attributes.get("token")) === false) return undefined;
  if (wanted.ckaId !== undefined && wanted.ckaId !== ckaId.toString("hex")) return undefined;
  return { handle: object, label, ckaId, kind, attributes };
}

function labelIn(attributes: ReadonlyMap<number, Buffer | undefined>): string {
  return unpad(attributes.get(pkcs11js.CKA_LABEL)?.toString("utf8") ?? "");
}

function kindOf(keyType: number | undefined): "aes" | "hmac" | undefined {
  if (keyType === pkcs11js.CKK_AES) return "aes";
  return keyType === pkcs11js.CKK_GENERIC_SECRET || keyType === CKK_SHA256_HMAC ? "hmac" : undefined;
}

/** Pairs an AES with an HMAC key where label and CKA_ID leave no doubt; every other key stands alone. */
function group(keys: readonly FoundKey[]): FoundKey[][] {
  const byName = new Map<string, FoundKey[]>();
  for (const key of keys) {
    const name = `${key.label}\0${key.ckaId.toString("hex")}`;
    byName.set(name, [...(byName.get(name) ?? []), key]);
  }
  return [...byName.values()].flatMap((same) => {
    const kinds = same.map((key) => key.kind);
    return same.length === 2 && kinds.includes("aes") && kinds.includes("hmac")
      ? [same]
      : same.map((key) => [key]);
  });
}

function nameGeneration(session: TokenSession, keys: readonly FoundKey[]): Kek {
  const [first] = keys;
  if (first === undefined) throw new TypeError("a generation without keys");
  const aes = keys.find((key) => key.kind === "aes");
  const hmac = keys.find((key) => key.kind === "hmac");
  const keyIds = nameValues(
    first.ckaId,
    aes === undefined ? undefined : fingerprintsOfAes(session, aes.handle),
    hmac === undefined ? undefined : fingerprintsOfHmac(session, hmac.handle),
  );
  const kind: KekKind = aes === undefined ? "hmac" : hmac === undefined ? "aes" : "aes+hmac";
  const record: KekRecord = {
    keyId: keyIds[0] ?? makeKeyId(first.ckaId, "n", Buffer.alloc(0)),
    aliases: keyIds.slice(1),
    label: printable(first.label).slice(0, MAX_LABEL_SHOWN),
    ckaId: first.ckaId.toString("hex", 0, MAX_ID_BYTES_SHOWN),
    kind,
    unprotected: keys.flatMap(unprotected),
    remarks: keys.flatMap(remarks),
  };
  return { record, ...(aes && { aes: aes.handle }), ...(hmac && { hmac: hmac.handle }), learnt: {} };
}

function nameValues(
  ckaId: Buffer,
  aes: Fingerprint[] | undefined,
  hmac: Fingerprint[] | undefined,
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

function remarks(key: FoundKey): string[] {
  const allowed: readonly string[] = ALLOWED_USES[key.kind];
  const excess = ALL_USES.filter(
    (use) => !allowed.includes(use) && asBoolean(key.attributes.get(use)) === true,
  );
  const bytes = asNumber(key.attributes.get("valueLen"));
  return [
    ...excess.map((use) => `CKA_${use.toUpperCase()} is true`),
    ...(asBoolean(key.attributes.get("local")) === false
      ? ["CKA_LOCAL is false: the key was not made in the HSM"]
      : []),
    ...(bytes !== undefined && bytes < KEK_BYTES ? [`the key has ${String(8 * bytes)} bits, not 256`] : []),
  ];
}
