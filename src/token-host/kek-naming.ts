// Turns key objects on the token into generations of the KEK, each with its name, its kind, and what is wrong with its
// attributes. An AES and an HMAC key that share label and CKA_ID are one generation. Handles are volatile: every
// reading proves each key again by its fingerprint, since a token that was away may reuse a handle number for another
// key.
import { makeKeyId } from "../hsm/key-id.js";
import type { KekKind } from "../hsm/mechanisms.js";
import type { KekRecord } from "../hsm/port.js";
import { asNumber } from "./attributes.js";
import {
  fingerprintsOfAes,
  fingerprintsOfHmac,
  type Fingerprint,
  type FingerprintMemory,
} from "./fingerprint.js";
import { isPublic, limitOfUse, remarks, shownName, unprotected, type FoundKey } from "./found-key.js";
import type { Kek } from "./kek.js";
import { nameRsaGeneration, pairRsaKeys } from "./rsa-naming.js";
import type { TokenSession } from "./session.js";

const KEK_BYTES = 32;

/**
 * Pairs an AES key with the only HMAC key of the same label and CKA_ID, and RSA keys with each other; every other key
 * is a generation of its own.
 */
export function pairKeys(keys: readonly FoundKey[]): FoundKey[][] {
  const isRsa = (key: FoundKey): boolean => key.kind === "rsa";
  return [...pairSecretKeys(keys.filter((key) => !isRsa(key))), ...pairRsaKeys(keys.filter(isRsa))];
}

/** A public key is never paired with a private one: the pair would replace a KEK by a refused one. */
function pairSecretKeys(keys: readonly FoundKey[]): FoundKey[][] {
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
  const checkedAt = session.losses;
  if (first.kind === "rsa") return { ...nameRsaGeneration(keys), checkedAt };
  const aes = keys.find((key) => key.kind === "aes");
  const hmac = keys.find((key) => key.kind === "hmac");
  const ofAes = aes && fingerprintsOfAes(session, aes.handle, memory);
  const ofHmac = hmac && fingerprintsOfHmac(session, hmac.handle);
  const keyIds = nameValues(first.ckaId, ofAes, ofHmac);
  const kind: KekKind = aes === undefined ? "hmac" : hmac === undefined ? "aes" : "aes+hmac";
  const record: KekRecord = {
    keyId: keyIds[0] ?? makeKeyId(first.ckaId, "n", Buffer.alloc(0)),
    aliases: keyIds.slice(1),
    ...shownName(first),
    kind,
    unprotected: [...new Set(keys.flatMap(unprotected))],
    remarks: [...new Set(keys.flatMap(remarksOnSecret)), ...(kind === "aes" ? limitOfUse(first) : [])],
  };
  return {
    record,
    ...(aes && { aes: aes.handle }),
    ...(hmac && { hmac: hmac.handle }),
    fingerprints: { aes: ofAes?.[0]?.value, hmac: ofHmac?.[0]?.value },
    discovered: {},
    checkedAt,
  };
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
  return [pairKeyId(ckaId, ofAes.value, ofHmac.value), ...single];
}

/** Returns the key_id of an AES and an HMAC key with these fingerprints. */
export function pairKeyId(ckaId: Buffer, aes: Buffer, hmac: Buffer): string {
  return makeKeyId(ckaId, "p", Buffer.concat([aes, hmac]));
}

const ALLOWED_USES = { aes: ["encrypt", "decrypt"], hmac: ["sign", "verify"] } as const;

function remarksOnSecret(key: FoundKey): string[] {
  const bytes = asNumber(key.attributes.get("valueLen"));
  return [
    ...remarks(key, ALLOWED_USES[key.kind === "aes" ? "aes" : "hmac"]),
    ...(bytes !== undefined && bytes < KEK_BYTES ? [`the key has ${8 * bytes} bits, not 256`] : []),
  ];
}
