// Fingerprints: a deterministic operation of the HSM over a fixed text, so that a key_id names the key's value without
// the value leaving the HSM. The texts are frozen. CBC with a zero IV and ECB compute the same AES block; it collides
// with a GCM counter block with a probability of 2^-96 per message (a random 96-bit IV would have to equal the text's
// first 12 bytes), and only a truncated SHA-256 of it is published.
//
// A temporary error must never change which fingerprints a key gets, since they are its name. Only a definite refusal
// (an unknown mechanism, a use that the key does not permit) takes one away. A general error, or one that reports a
// broken device, may be either: see `settle`.
import type { Handle } from "pkcs11js";
import pkcs11js from "pkcs11js";
import type { FingerprintMethod } from "../hsm/key-id.js";
import type { TokenSession } from "./session.js";
import { AlteredResult, isGeneralError, type TokenFault } from "./ckr.js";
import { gcmEncrypt, IV_BYTES, TAG_BYTES } from "./mechanisms/gcm-call.js";
import { aesBlock, isRefusal, mayRefuseAsBroken, tryCall } from "./refusal.js";

const DOING = "fingerprinting the key (C_Encrypt)";
const BLOCK = Buffer.from("kms-pkcs11 kcv 1");
const HMAC_TEXT = Buffer.from("kms-pkcs11 key fingerprint, version 1");
const HMAC_BYTES = 32;
const GCM_TEXT = Buffer.from("kms-pkcs11 key fingerprint, version 1");

/** Further attempts at a fingerprint before such an error counts as a refusal. */
const SETTLING_ROUNDS = 6;

/** A fingerprint of a key's value and the method that computed it. */
export interface Fingerprint {
  readonly method: FingerprintMethod;
  readonly value: Buffer;
}

/** A fingerprint's value; "refused" if the token never computes it; or another error, which leaves that open. */
type Outcome = Buffer | "refused" | TokenFault;

interface AesMethod {
  readonly method: FingerprintMethod;
  readonly compute: (session: TokenSession, key: Handle) => Outcome;
}

/** The fingerprint that names the key comes first. */
const AES_METHODS: readonly AesMethod[] = [
  { method: "c", compute: encryptBlock },
  { method: "g", compute: encryptUnderReservedIv },
];

/** Remembers which fingerprints belong to one key value. One per lane. */
export class FingerprintMemory {
  readonly #byFingerprint = new Map<string, readonly Fingerprint[]>();

  /** Returns all fingerprints of the key value that this one belongs to; undefined if it has not been seen. */
  find(fingerprint: Fingerprint): readonly Fingerprint[] | undefined {
    return this.#byFingerprint.get(nameOf(fingerprint));
  }

  /** Remembers all fingerprints of one value. */
  store(fingerprints: readonly Fingerprint[]): void {
    for (const one of fingerprints) this.#byFingerprint.set(nameOf(one), fingerprints);
  }
}

function nameOf({ method, value }: Fingerprint): string {
  return method + value.toString("hex");
}

/**
 * Returns every fingerprint that this AES key performs, the one that names it first; none if the token refuses all.
 * @throws TokenFault when the token fails, so that no name is given to the key
 */
export function fingerprintsOfAes(
  session: TokenSession,
  key: Handle,
  memory: FingerprintMemory,
): readonly Fingerprint[] {
  const outcomes = AES_METHODS.map((method) => ({ method, outcome: method.compute(session, key) }));
  const performed = outcomes.find(({ outcome }) => Buffer.isBuffer(outcome));
  const fault = outcomes.map(({ outcome }) => outcome).find((outcome) => outcome instanceof Error);
  if (fault !== undefined) {
    if (performed === undefined || !Buffer.isBuffer(performed.outcome)) throw fault;
    const reference = { method: performed.method.method, value: performed.outcome };
    // The reference identifies the value, and with it the fingerprint that fails now.
    const known = memory.find(reference);
    if (known !== undefined) return known;
    for (const one of outcomes) {
      if (!(one.outcome instanceof Error)) continue;
      one.outcome = settle(
        () => one.method.compute(session, key),
        () => performed.method.compute(session, key),
        reference.value,
      );
    }
  }
  const found = outcomes.flatMap(({ method: { method }, outcome }) =>
    Buffer.isBuffer(outcome) ? [{ method, value: outcome }] : [],
  );
  memory.store(found);
  return found;
}

/**
 * Decides whether a fingerprint that ended in an error is refused. Some tokens return a general error for every
 * mechanism they lack, and others report a broken device; the key still needs a name, the same on every node. So the
 * computation is repeated, each time followed by one that is known to work, the reference. If the error is temporary,
 * sooner or later the computation succeeds or the reference fails.
 * @throws TokenFault when the reference fails as well
 */
function settle(compute: () => Outcome, computeReference: () => Outcome, reference: Buffer): Outcome {
  for (let round = 0; round < SETTLING_ROUNDS; round++) {
    const outcome = compute();
    if (!(outcome instanceof Error)) return outcome;
    const again = computeReference();
    if (!Buffer.isBuffer(again) || !again.equals(reference)) throw outcome;
  }
  return "refused";
}

/**
 * Returns the fingerprint of an HMAC key; none if the token refuses to sign with it.
 * @throws TokenFault when the token fails
 */
export function fingerprintsOfHmac(session: TokenSession, key: Handle): readonly Fingerprint[] {
  const value = agreed(() => signText(session, key));
  if (value === undefined) throw neverAgreed();
  if (Buffer.isBuffer(value)) return [{ method: "s", value: requireLength(value, HMAC_BYTES) }];
  if (!isRefusal(value) || isGeneralError(value)) throw value;
  return [];
}

function signText(session: TokenSession, key: Handle): Buffer | TokenFault {
  const signed = tryCall(session, "fingerprinting the key (C_Sign)", (handle) =>
    session.timed(() => {
      session.lib.C_SignInit(handle, { mechanism: pkcs11js.CKM_SHA256_HMAC }, key);
      return Buffer.from(session.lib.C_Sign(handle, HMAC_TEXT, Buffer.alloc(64)));
    }),
  );
  return signed.ok ? signed.value : signed.fault;
}

/**
 * Computes a fingerprint once, to compare it with a known one: an altered result cannot match by accident.
 * @returns undefined if the token computes no such fingerprint with this key
 * @throws TokenFault when the token is logged out, or has no session or key
 */
export function computeOnce(session: TokenSession, method: "c" | "g" | "s", key: Handle): Buffer | undefined {
  const computed = {
    c: () => aesBlock(session, key, BLOCK, DOING),
    g: () => sealUnderReservedIv(session, key),
    s: () => signText(session, key),
  }[method]();
  if (Buffer.isBuffer(computed)) return computed;
  if (computed instanceof Error && !isRefusal(computed)) throw computed;
  return undefined;
}

/**
 * Returns the result on which two of up to three calls agree: an altered result would give the key a different name,
 * under which nothing could be decrypted. Undefined when no two agree; returns a failure at once.
 */
function agreed<T>(compute: () => Buffer | T): Buffer | T | undefined {
  const seen: Buffer[] = [];
  for (let tries = 0; tries < 3; tries++) {
    const out = compute();
    if (!Buffer.isBuffer(out) || seen.some((earlier) => earlier.equals(out))) return out;
    seen.push(out);
  }
  return undefined;
}

function neverAgreed(): AlteredResult {
  return new AlteredResult("the token computes a different fingerprint for the same key each time");
}

/** Throws if an output with CKR_OK has a wrong length: the key must not be named by its next fingerprint. */
function requireLength(output: Buffer, bytes: number): Buffer {
  if (output.length === bytes) return output;
  throw new AlteredResult(
    `the token returned ${output.length} bytes instead of ${bytes} for the key's fingerprint`,
  );
}

function encryptBlock(session: TokenSession, key: Handle): Outcome {
  const block = agreed(() => aesBlock(session, key, BLOCK, DOING));
  if (block === undefined) throw neverAgreed();
  if (Buffer.isBuffer(block)) return requireLength(block, BLOCK.length);
  return block.find((fault) => !isPlainRefusal(fault)) ?? "refused";
}

/** Returns whether a fault is certainly a refusal; others may be the token's own errors. */
function isPlainRefusal(fault: TokenFault): boolean {
  return isRefusal(fault) && !isGeneralError(fault);
}

/** Only a token that uses the caller's IV returns the same bytes twice; on others, this fingerprint does not exist. */
function encryptUnderReservedIv(session: TokenSession, key: Handle): Outcome {
  return agreed(() => sealUnderReservedIv(session, key)) ?? "refused";
}

function sealUnderReservedIv(session: TokenSession, key: Handle): Outcome {
  // Reserved for the fingerprint: a random IV equals it with a probability of 2^-96.
  const iv = Buffer.alloc(IV_BYTES);
  const call = { ckm: pkcs11js.CKM_AES_GCM, iv, aad: BLOCK };
  const out = tryCall(session, DOING, (handle) =>
    session.timed(() => Buffer.from(gcmEncrypt(session, handle, key, call, GCM_TEXT))),
  );
  if (out.ok) {
    const usedOurs = out.value.length === GCM_TEXT.length + TAG_BYTES && iv.every((byte) => byte === 0);
    return usedOurs ? out.value : "refused";
  }
  if (isPlainRefusal(out.fault)) return "refused";
  if (mayRefuseAsBroken(out.fault)) return out.fault;
  throw out.fault;
}
