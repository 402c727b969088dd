// key_id: the public name of a KEK value. It joins the CKA_ID (or a digest of a long one) and a fingerprint
// that the HSM computed over a fixed text, so that it survives restarts, slot renumbering and cloning, and
// differs for two keys that share label and CKA_ID. It never contains the token's serial: clones differ in it.
//
//   key_id      = <cka-id> "." <method> [ <fingerprint> ]
//   cka-id      = hex of CKA_ID | "h" hex of SHA-256(CKA_ID), first 16 bytes, if longer | "0" if empty
//   fingerprint = hex of SHA-256(domain text, method, value from the HSM), first 16 bytes
import { createHash } from "node:crypto";
import { PUBLIC_KEY, type KekRecord } from "./port.js";

/**
 * How the HSM computed the fingerprint: `c` AES of one fixed block, `g` AES-GCM under the reserved zero IV, `s`
 * HMAC-SHA-256 of a fixed text, `p` a pair of an AES and an HMAC key, `n` no fingerprint. For RSA key pairs (`r`) the
 * HSM computes nothing: the fingerprint is made from their public keys.
 */
export type FingerprintMethod = "c" | "g" | "s" | "p" | "r" | "n";

const ID_BYTES_IN_CLEAR = 16;
const DIGEST_BYTES = 16;
const DOMAIN = "kms-pkcs11 fingerprint v1";

/** Returns the key_id: printable ASCII, 3 to 66 characters. Frozen: stored data carries it. */
export function makeKeyId(ckaId: Uint8Array, method: FingerprintMethod, value: Uint8Array): string {
  const fingerprint =
    method === "n"
      ? ""
      : createHash("sha256")
          .update(DOMAIN)
          .update(method)
          .update(value)
          .digest()
          .toString("hex", 0, DIGEST_BYTES);
  return `${nameCkaId(ckaId)}.${method}${fingerprint}`;
}

const ID_PART = "(?:0|(?:[0-9a-f]{2}){1,16}|h[0-9a-f]{32})";
const KEY_ID = new RegExp(`^${ID_PART}\\.(?:n|[cgspr][0-9a-f]{32})$`);
const BEGINNING = new RegExp(
  `^(?:0|[0-9a-f]{1,32}|h[0-9a-f]{0,32}|${ID_PART}\\.(?:n|[cgspr][0-9a-f]{0,32})?)$`,
);

/** Returns whether a text has the form of a whole key_id. */
export function isKeyId(text: string): boolean {
  return KEY_ID.test(text);
}

/** Returns whether a key_id has a fingerprint; without one it names only a CKA_ID and says nothing about the value. */
export function namesValue(keyId: string): boolean {
  return !keyId.endsWith(".n");
}

/** Returns whether two key_ids have the same fingerprint, whatever their CKA_IDs. */
export function haveOneFingerprint(one: string, other: string): boolean {
  return namesValue(one) && one.split(".")[1] === other.split(".")[1];
}

/** Returns whether a key_id contains this fingerprint, whatever its CKA_ID. */
export function containsFingerprint(keyId: string, method: FingerprintMethod, value: Uint8Array): boolean {
  return makeKeyId(Buffer.alloc(0), method, value).split(".")[1] === keyId.split(".")[1];
}

/** Returns whether some key_id may begin with a text. */
export function mayBeginKeyId(text: string): boolean {
  return BEGINNING.test(text);
}

/**
 * Returns whether two key_ids have the same CKA_ID and fingerprints that cannot be compared, so that they may name one KEK.
 * That of a pair contains one of its AES key, which the HSM may have computed by another method.
 */
function mayNameOneKek(one: string, other: string): boolean {
  const [ckaId, fingerprint = ""] = one.split(".");
  const [otherCkaId, otherFingerprint = ""] = other.split(".");
  const isComparable = fingerprint[0] === otherFingerprint[0] && fingerprint[0] !== "p";
  return isKeyId(one) && isKeyId(other) && ckaId === otherCkaId && !isComparable;
}

/** The key_ids of one KEK value. */
interface KeyIds {
  readonly keyId: string;
  readonly aliases: readonly string[];
}

/** Returns whether a KEK has this key_id, as its own or as an alias. */
export function hasKeyId({ keyId, aliases }: KeyIds, wanted: string): boolean {
  return keyId === wanted || aliases.includes(wanted);
}

/**
 * Returns whether a KEK that does not have a key_id may still be the one it names: they have the same CKA_ID, and their
 * fingerprints were computed by different methods, so that they cannot be compared.
 */
export function mayBeNamed({ keyId, aliases }: KeyIds, wanted: string): boolean {
  const keyIds = [keyId, ...aliases];
  return !keyIds.includes(wanted) && mayHaveHadKeyId(keyIds, wanted);
}

/**
 * Returns the KEK that may be the one a key_id names, protected ones first; undefined if there is none, or more than one.
 * Never a key that somebody may have made without a PIN.
 */
export function onlyMayBeNamed<K extends { readonly record: KeyIds & Pick<KekRecord, "unprotected"> }>(
  keks: readonly K[],
  wanted: string,
): K | undefined {
  const similar = keks.filter(
    ({ record }) => mayBeNamed(record, wanted) && !record.unprotected.includes(PUBLIC_KEY),
  );
  const secure = similar.filter(({ record }) => record.unprotected.length === 0);
  const [only, another] = secure.length > 0 ? secure : similar;
  return another === undefined ? only : undefined;
}

/**
 * Returns whether a KEK with these key_ids has the wanted one, or may have had it before its HSM computed the
 * fingerprint by another method, for instance because its `CKA_ENCRYPT` has been set to false.
 * @param others key_ids that other KEKs have now
 */
export function mayHaveHadKeyId(
  keyIds: readonly string[],
  wanted: string,
  others: readonly string[] = [],
): boolean {
  if (keyIds.includes(wanted)) return true;
  return keyIds.length > 0 && !others.includes(wanted) && keyIds.every((name) => mayNameOneKek(name, wanted));
}

/**
 * Returns whether two records have the same key value. Its key_id may differ between tokens that perform different
 * mechanisms.
 */
export function isSameKek(one: KeyIds, other: KeyIds): boolean {
  return hasKeyId(one, other.keyId) || other.aliases.includes(one.keyId);
}

/** Returns how a key_id names a CKA_ID: the part before its dot. */
export function nameCkaId(ckaId: Uint8Array): string {
  if (ckaId.length === 0) return "0";
  if (ckaId.length <= ID_BYTES_IN_CLEAR) return Buffer.from(ckaId).toString("hex");
  return "h" + createHash("sha256").update(ckaId).digest().toString("hex", 0, DIGEST_BYTES);
}

/** Returns the CKA_ID that a key_id contains; undefined if it contains a digest of the CKA_ID, or none. */
export function ckaIdIn(keyId: string): Buffer | undefined {
  const [ckaId = ""] = keyId.split(".");
  return isKeyId(keyId) && ckaId !== "0" && !ckaId.startsWith("h") ? Buffer.from(ckaId, "hex") : undefined;
}
