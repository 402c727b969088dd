// A KEK in the form in which one lane passes it to the others of its token host. PKCS#11 promises a handle's validity
// only to the session that found it, and a handle number may have been reused: a lane uses a received handle only after
// the key behind it has computed the fingerprint in the KEK's key_id (v2.40, section 5.1 and its object handles).
import type { KeyObject } from "node:crypto";
import pkcs11js, { type Handle } from "pkcs11js";
import { containsFingerprint } from "../hsm/key-id.js";
import type { KekRecord } from "../hsm/port.js";
import { readAttributes } from "./attributes.js";
import { TokenFault } from "./ckr.js";
import { computeOnce } from "./fingerprint.js";
import { discoveredBefore, keysOf, type Discovered, type Kek, type RsaKey } from "./kek.js";
import { withoutZeros } from "./rsa-naming.js";
import type { TokenSession } from "./session.js";

interface SharedRsaKey {
  readonly handle: string;
  readonly label: string;
  readonly modulus: string;
  readonly publicKey: KeyObject;
}

/** Contains only what a message between threads can carry; handles and moduli in hex. */
export interface SharedKek {
  readonly record: KekRecord;
  readonly aes?: string;
  readonly hmac?: string;
  readonly decrypts?: SharedRsaKey;
  readonly signs?: SharedRsaKey;
  readonly discovered: Discovered;
}

/** Returns the form to pass on; a refusal is not passed on, so that each lane checks it. */
export function toShared(kek: Kek): SharedKek {
  const { record, aes, hmac, decrypts, signs } = kek;
  return {
    record,
    ...(aes && { aes: aes.toString("hex") }),
    ...(hmac && { hmac: hmac.toString("hex") }),
    ...(decrypts && { decrypts: toSharedRsa(decrypts) }),
    ...(signs && { signs: toSharedRsa(signs) }),
    discovered: discoveredBefore(kek),
  };
}

function toSharedRsa({ handle, label, modulus, publicKey }: RsaKey): SharedRsaKey {
  return { handle: handle.toString("hex"), label, modulus: modulus.toString("hex"), publicKey };
}

/**
 * Returns the KEK with handles that denote its keys in this session; undefined if they denote others, or if the KEK has
 * no fingerprint to check.
 * @param failed handles that are known to be invalid
 * @throws TokenFault when the token is away or logged out
 */
export function fromShared(
  session: TokenSession,
  shared: SharedKek,
  failed: readonly Handle[] = [],
): Kek | undefined {
  const { record, aes, hmac, decrypts, signs, discovered } = shared;
  const kek: Kek = {
    record,
    ...(aes !== undefined && { aes: Buffer.from(aes, "hex") }),
    ...(hmac !== undefined && { hmac: Buffer.from(hmac, "hex") }),
    ...(decrypts && { decrypts: fromSharedRsa(decrypts) }),
    ...(signs && { signs: fromSharedRsa(signs) }),
    discovered: { ...discovered },
    checkedAt: session.losses,
  };
  const hasFailed = keysOf(kek).some((key) => failed.some((one) => one.equals(key)));
  return !hasFailed && denotes(session, kek) ? kek : undefined;
}

function fromSharedRsa({ handle, label, modulus, publicKey }: SharedRsaKey): RsaKey {
  return { handle: Buffer.from(handle, "hex"), label, modulus: Buffer.from(modulus, "hex"), publicKey };
}

/**
 * Returns whether the handles of a KEK denote its keys in this session; false if it has no fingerprint to check.
 * @throws TokenFault when the token is away or logged out
 */
export function denotes(session: TokenSession, kek: Kek): boolean {
  const { record, aes, hmac, decrypts, signs } = kek;
  const names = [record.keyId, ...record.aliases];
  const checks = [
    ...(aes ? [(): boolean => computes(session, names, ["c", "g"], aes)] : []),
    ...(hmac ? [(): boolean => computes(session, names, ["s"], hmac)] : []),
    ...[decrypts, signs].flatMap((key) => (key ? [(): boolean => hasModulus(session, key)] : [])),
  ];
  try {
    return checks.length > 0 && checks.every((check) => check());
  } catch (error) {
    if (error instanceof TokenFault && error.fault === "object") return false;
    throw error;
  }
}

/** Returns whether a key computes the first of these fingerprints that is among the names. */
function computes(
  session: TokenSession,
  names: readonly string[],
  methods: readonly ("c" | "g" | "s")[],
  key: Handle,
): boolean {
  for (const method of methods) {
    if (!names.some((name) => name.includes(`.${method}`))) continue;
    const value = computeOnce(session, method, key);
    return value !== undefined && names.some((name) => containsFingerprint(name, method, value));
  }
  return false;
}

function hasModulus(session: TokenSession, { handle, modulus }: RsaKey): boolean {
  const value = readAttributes(session, handle, [pkcs11js.CKA_MODULUS]).get(pkcs11js.CKA_MODULUS);
  return value !== undefined && withoutZeros(value).equals(modulus);
}
