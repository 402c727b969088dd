// A generation of the KEK as the token host knows it: the record that is sent to the plugin, the object handles that
// are not, and what has been discovered about the token's mechanisms with this key.
import type { KeyObject } from "node:crypto";
import type { Handle } from "pkcs11js";
import type { KekRecord } from "../hsm/port.js";
import { TokenFault } from "./ckr.js";
import type { GcmIvMode } from "./mechanisms/gcm-iv-mode.js";
import type { KwpVariant } from "./mechanisms/kwp-variant.js";

/** PKCS#11 v3.0; pkcs11js does not define it. */
export const CKK_SHA256_HMAC = 0x2b;

/** The mechanism with which C_Sign makes an RSA-PSS signature: of the text, or of its digest computed here. */
export type PssVariant = "text" | "digest";

/** Discovered on first use. It belongs to the key's value, whatever its handle. */
export interface Discovered {
  /** Null if the token definitely refuses AES-GCM with this key. */
  gcm?: GcmIvMode | null;
  kwp?: KwpVariant;
  /** The variant that unwraps under a key that may not wrap. */
  kwpUnwraps?: KwpVariant;
  pss?: PssVariant;
}

/** The private key of an RSA key pair, with the public key that its attributes contain. */
export interface RsaKey {
  readonly handle: Handle;
  /** The label as stored on the token. */
  readonly label: string;
  readonly modulus: Buffer;
  readonly publicKey: KeyObject;
}

/** One generation of the KEK with its handles on this lane. */
export interface Kek {
  readonly record: KekRecord;
  readonly aes?: Handle;
  readonly hmac?: Handle;
  /** The RSA key that decrypts, and the one that signs. */
  readonly decrypts?: RsaKey;
  readonly signs?: RsaKey;
  /** The first fingerprint of each secret key; undefined for a key that performs none. */
  readonly fingerprints?: { readonly aes?: Buffer | undefined; readonly hmac?: Buffer | undefined };
  readonly discovered: Discovered;
  /** Number of sessions that the token had ended when the handles were last found or checked. */
  checkedAt: number;
}

/** One secret or private key of a KEK. */
export interface KekPart {
  readonly role: "aes" | "hmac" | "decrypts" | "signs";
  readonly handle: Handle;
  /** A fingerprint or a modulus, which distinguishes values; undefined if the HSM computes no fingerprint. */
  readonly value: Buffer | undefined;
}

/**
 * Returns what was discovered about a KEK up to an earlier reading, without refusals, so that these are checked again.
 */
export function discoveredBefore(earlier: Kek | undefined): Discovered {
  return Object.fromEntries(Object.entries(earlier?.discovered ?? {}).filter(([, found]) => isKept(found)));
}

/** Returns all secret and private keys of a KEK. */
export function partsOf({ aes, hmac, decrypts, signs, fingerprints }: Kek): KekPart[] {
  return [
    ...(aes ? [{ role: "aes", handle: aes, value: fingerprints?.aes } as const] : []),
    ...(hmac ? [{ role: "hmac", handle: hmac, value: fingerprints?.hmac } as const] : []),
    ...(decrypts ? [{ role: "decrypts", handle: decrypts.handle, value: decrypts.modulus } as const] : []),
    ...(signs ? [{ role: "signs", handle: signs.handle, value: signs.modulus } as const] : []),
  ];
}

/** Returns whether a trial has discovered something about a KEK. */
export function hasDiscovered({ discovered }: Kek): boolean {
  return Object.values(discovered).some(isKept);
}

/** Returns whether a trial discovered something, rather than a refusal. */
const isKept = (found: unknown): boolean => found !== undefined && found !== null;

/** Returns the handles of all secret and private keys of a KEK. */
export function keysOf(kek: Kek): Handle[] {
  return partsOf(kek).map(({ handle }) => handle);
}

/** Returns the AES key. @throws TokenFault MECHANISM_UNSUPPORTED if there is none */
export function aesKeyOf(kek: Kek): Handle {
  if (kek.aes !== undefined) return kek.aes;
  throw new TokenFault("this KEK has no AES key", { fault: "setup", code: "MECHANISM_UNSUPPORTED" });
}
