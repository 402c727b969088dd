// Turns RSA key pairs on the token into a generation of the KEK: one decrypts, the other signs. The public keys, read
// from the attributes of the private keys, are the KEK's fingerprint: they determine its value, and clones have the
// same. Public key objects are not used, since some tokens let anybody make one without a login.
import { createHash, createPublicKey, type KeyObject } from "node:crypto";
import { makeKeyId } from "../hsm/key-id.js";
import type { KekRecord } from "../hsm/port.js";
import { asBoolean } from "./attributes.js";
import { TokenFault } from "./ckr.js";
import { isPublic, remarks, shownName, unprotected, type FoundKey } from "./found-key.js";
import type { Kek, RsaKey } from "./kek.js";

const LEAST_BITS = 2048;
/**
 * Assumed for a token that does not show its exponent: 65537, which is nearly universal. With any other, the KEK's
 * proof fails.
 */
const USUAL_EXPONENT = Buffer.of(1, 0, 1);

type Role = "decrypt" | "sign";

/** Returns the CKA_ID for the key that signs: some tokens do not keep two private keys with one CKA_ID. */
export function signingKeyId(ckaId: Buffer): Buffer {
  const digest = createHash("sha256").update("kms-pkcs11 rsa-oaep signing key").update(ckaId).digest();
  return digest.subarray(0, Math.min(digest.length, ckaId.length));
}

/**
 * Pairs each key that decrypts with the key of the same label that signs: by the CKA_ID that the plugin gives it, by an
 * equal CKA_ID, or as the only two. Every other key is half a generation, which is refused. A key that anybody may have
 * made is never paired with a protected one.
 */
export function pairRsaKeys(keys: readonly FoundKey[]): FoundKey[][] {
  const byName = new Map<string, FoundKey[]>();
  for (const key of keys) {
    const name = `${key.label}\0${isPublic(key)}`;
    byName.set(name, [...(byName.get(name) ?? []), key]);
  }
  return [...byName.values()].flatMap(pairOfOneLabel);
}

function pairOfOneLabel(keys: readonly FoundKey[]): FoundKey[][] {
  const pairs: FoundKey[][] = [];
  let left = keys;
  const rules = [
    (one: FoundKey, other: FoundKey) => signingKeyId(one.ckaId).equals(other.ckaId) && suits(one, other),
    (one: FoundKey, other: FoundKey) => one.ckaId.equals(other.ckaId) && inOrder(one, other),
    (one: FoundKey, other: FoundKey) => left.length === 2 && inOrder(one, other),
  ];
  for (const belong of rules) {
    const found = left.flatMap((one) =>
      left.filter((other) => other !== one && belong(one, other)).map((other) => [one, other]),
    );
    const isOnly = (key: FoundKey): boolean => found.filter((pair) => pair.includes(key)).length === 1;
    const certain = found.filter((pair) => pair.every(isOnly));
    pairs.push(...certain);
    left = left.filter((key) => !certain.flat().includes(key));
  }
  return [...pairs, ...left.map((key) => [key])];
}

/** Returns whether a key may have a role; a token that does not show its uses leaves that open. */
function may(key: FoundKey, role: Role): boolean {
  return asBoolean(key.attributes.get(role)) !== false;
}

function suits(decrypts: FoundKey, signs: FoundKey): boolean {
  return may(decrypts, "decrypt") && may(signs, "sign");
}

/**
 * Decides which of two keys decrypts. If both may do both, their immutable attributes decide, so that all nodes agree.
 */
function inOrder(decrypts: FoundKey, signs: FoundKey): boolean {
  if (!suits(decrypts, signs)) return false;
  return !suits(signs, decrypts) || Buffer.compare(sortKey(decrypts), sortKey(signs)) < 0;
}

function sortKey({ ckaId, attributes }: FoundKey): Buffer {
  return Buffer.concat([ckaId, attributes.get("modulus") ?? Buffer.alloc(0)]);
}

/**
 * Returns the generation of a pair, or of a single key, which is refused.
 * @throws TokenFault when the token does not show a public key
 */
export function nameRsaGeneration(keys: readonly FoundKey[]): Omit<Kek, "checkedAt"> {
  const [first, second] = keys;
  if (first === undefined) throw new TypeError("a generation without keys");
  const isHalf = second === undefined;
  const decrypts = isHalf && !may(first, "decrypt") ? undefined : first;
  const signs = decrypts === undefined ? first : second;
  const decrypting = decrypts && rsaKey(decrypts);
  const signing = signs && rsaKey(signs);
  const record: KekRecord = {
    keyId: rsaKeyId(first.ckaId, decrypting, signing),
    aliases: [],
    ...shownName(first),
    kind: "rsa",
    unprotected: [...keys.flatMap(unprotected), ...unsuitable(decrypting, signing)],
    remarks: [
      ...(decrypts ? remarks(decrypts, ["decrypt"]) : []),
      ...(signs ? remarks(signs, ["sign"]) : []),
    ],
  };
  return {
    record,
    ...(decrypting && { decrypts: decrypting }),
    ...(signing && { signs: signing }),
    discovered: {},
  };
}

function unsuitable(decrypts: RsaKey | undefined, signs: RsaKey | undefined): string[] {
  const shortest = Math.min(...[decrypts, signs].flatMap((key) => (key ? [8 * key.modulus.length] : [])));
  const isSame = decrypts && signs && decrypts.modulus.equals(signs.modulus);
  return [
    ...(decrypts === undefined ? ["the RSA key that decrypts is missing"] : []),
    ...(signs === undefined ? ["the RSA key that signs is missing"] : []),
    ...(isSame === true ? ["one RSA key pair decrypts and signs"] : []),
    ...(shortest < LEAST_BITS ? [`an RSA key has ${shortest} bits, fewer than ${LEAST_BITS}`] : []),
  ];
}

/** Returns the key_id of two RSA key pairs, or of one. @param ckaId that of the key that decrypts */
export function rsaKeyId(ckaId: Buffer, decrypts: RsaKey | undefined, signs: RsaKey | undefined): string {
  return makeKeyId(ckaId, "r", fingerprint(decrypts, signs));
}

/** Frozen: the key_id contains a digest of it. */
function fingerprint(decrypts: RsaKey | undefined, signs: RsaKey | undefined): Buffer {
  const digest = createHash("sha256").update("kms-pkcs11 rsa-oaep public keys v1");
  for (const [role, key] of Object.entries({ decrypts, signs })) {
    if (key !== undefined) digest.update(role).update(key.publicKey.export({ type: "spki", format: "der" }));
  }
  return digest.digest();
}

function rsaKey({ handle, label, attributes }: FoundKey): RsaKey {
  const modulus = withoutZeros(attributes.get("modulus") ?? Buffer.alloc(0));
  const exponent = attributes.get("publicExponent");
  const publicKey = publicKeyOf(
    modulus,
    exponent === undefined || exponent.length === 0 ? USUAL_EXPONENT : exponent,
  );
  return { handle, label, modulus, publicKey };
}

function publicKeyOf(modulus: Buffer, exponent: Buffer): KeyObject {
  try {
    const key = { kty: "RSA", n: modulus.toString("base64url"), e: exponent.toString("base64url") };
    return createPublicKey({ key, format: "jwk" });
  } catch (error) {
    throw new TokenFault("the token does not show the public key of an RSA private key (CKA_MODULUS)", {
      fault: "setup",
      code: "KEY_UNSUITABLE",
      cause: error,
    });
  }
}

/** Returns a CKA_MODULUS without leading zeros, which tokens add or not. */
export function withoutZeros(number: Buffer): Buffer {
  const start = number.findIndex((byte) => byte !== 0);
  return start === -1 ? Buffer.alloc(0) : number.subarray(start);
}
