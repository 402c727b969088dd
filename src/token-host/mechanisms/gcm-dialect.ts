// Which AES-GCM a token speaks, found by trial: who makes the IV, where it comes back, and how the token
// wants it for decryption. Two encryptions of a known text under a known IV tell: output longer by the tag
// and the IV unchanged, the IV overwritten, or an IV of 12 or 16 bytes before or behind the ciphertext.
// Vendors' documents say which does what; nothing here asks for a vendor's name.
import { randomBytes } from "node:crypto";
import pkcs11js, { type Handle } from "pkcs11js";
import type { MechanismName } from "../../hsm/mechanisms.js";
import { AlteredResult, isGeneralError, type TokenFault } from "../ckr.js";
import type { TokenSession } from "../session.js";
import { aesBlock, isRefusal, mayBeRefusal, tryCall } from "../trial.js";
import { gcmDecrypt, gcmEncrypt, IV_BYTES, TAG_BYTES, type GcmCall } from "./gcm-call.js";

export type IvSent = "random" | "zero" | "none";

export interface GcmDialect {
  readonly mechanism: MechanismName;
  /** CKM_AES_GCM or a vendor's own number for it. */
  readonly ckm: number;
  readonly ivSent: IvSent;
  readonly ivBytes: number;
  /** Decryption takes the token's own output back, IV and all, instead of the IV in the parameters. */
  readonly ownFormat: boolean;
}

/** Google kmsp11's CKM_CLOUDKMS_AES_GCM: refuses an IV that is not zero, and writes its own. */
const VENDOR_GCM = [0x8001e101];
const KNOWN_TEXT = Buffer.from("kms-pkcs11 known text for one trial of AES-GCM");
const KNOWN_AAD = Buffer.from("kms-pkcs11 trial");

/** `doubt`: a code that may refuse as well as report passing trouble; another trial may end otherwise. */
export type DialectTrial =
  { readonly dialect: GcmDialect } | { readonly refusal: string; readonly doubt?: TokenFault };
type Outcome = { readonly dialect: GcmDialect } | { readonly refusal: string };

interface Trial {
  readonly session: TokenSession;
  readonly key: Handle;
  /** A call succeeded, but its output fits no dialect. */
  unlike: boolean;
  doubt?: TokenFault;
}

/**
 * Tries AES-GCM with this key.
 * @throws TokenFault when the token is away or logged out; a refusal is returned, not thrown
 */
export function findGcmDialect(session: TokenSession, key: Handle): DialectTrial {
  const trial: Trial = { session, key, unlike: false };
  let outcome = tryDialects(trial);
  // One altered result looks like a dialect that nobody speaks; a second trial shows the token's own.
  if (!("dialect" in outcome) && trial.unlike) outcome = tryDialects(trial);
  if ("dialect" in outcome || trial.doubt === undefined) return outcome;
  return { ...outcome, doubt: trial.doubt };
}

function tryDialects(trial: Trial): Outcome {
  const offered = mechanismsOf(trial.session);
  let refusal = "the token does not list CKM_AES_GCM";
  for (const ckm of [pkcs11js.CKM_AES_GCM, ...VENDOR_GCM]) {
    if (offered !== undefined && !offered.has(ckm)) continue;
    for (const ivSent of ["random", "zero", "none"] as const) {
      const outcome = tryDialect(trial, ckm, ivSent);
      if ("dialect" in outcome) return outcome;
      refusal = outcome.refusal;
    }
  }
  return { refusal };
}

/** Undefined where the token does not tell. */
function mechanismsOf(session: TokenSession): ReadonlySet<number> | undefined {
  try {
    return new Set(session.lib.C_GetMechanismList(session.slot));
  } catch {
    return undefined;
  }
}

function tryDialect(trial: Trial, ckm: number, ivSent: IvSent): Outcome {
  const first = encryptKnown(trial, ckm, ivSent);
  if ("refusal" in first) return first;
  const candidates = readings(first, ckm, ivSent);
  for (const candidate of candidates) {
    if (opensAndRefuses(trial, candidate.dialect, candidate.iv, candidate.sealed)) {
      if (candidate.dialect.ownFormat) return { dialect: ownDialect(trial, candidate, candidates) };
      if (candidate.dialect.mechanism !== "aes-gcm") return { dialect: candidate.dialect };
      return isDeterministic(trial, ckm, first)
        ? { dialect: candidate.dialect }
        : unlike(trial, "the token neither uses the caller's IV nor returns its own");
    }
  }
  return unlike(trial, "the token's AES-GCM output does not decrypt again, or a changed one is not refused");
}

function unlike(trial: Trial, refusal: string): Outcome {
  trial.unlike = true;
  return { refusal };
}

interface KnownOutput {
  readonly ivBefore: Buffer;
  readonly ivAfter: Buffer;
  readonly raw: Buffer;
}

function encryptKnown(trial: Trial, ckm: number, sent: IvSent | Buffer): KnownOutput | { refusal: string } {
  const iv = Buffer.isBuffer(sent) ? Buffer.from(sent) : makeIv(sent);
  const ivBefore = Buffer.from(iv);
  const { session, key } = trial;
  const out = tryCall(session, "trying AES-GCM (C_Encrypt)", (handle) =>
    gcmEncrypt(session, handle, key, { ckm, iv, aad: KNOWN_AAD }, KNOWN_TEXT),
  );
  if (out.ok) return { ivBefore, ivAfter: iv, raw: out.value };
  if (!mayBeRefusal(out.fault)) throw out.fault;
  doubtful(trial, out.fault);
  return { refusal: out.fault.message };
}

function doubtful(trial: Trial, fault: TokenFault): void {
  if (isGeneralError(fault) || !isRefusal(fault)) trial.doubt ??= fault;
}

/** The IV buffer to hand over: random where the caller's IV is used, else what the token wants to see. */
export function makeIv(sent: IvSent): Buffer {
  if (sent === "random") return randomBytes(IV_BYTES);
  return Buffer.alloc(sent === "zero" ? IV_BYTES : 0);
}

interface Reading {
  readonly dialect: GcmDialect;
  readonly iv: Buffer;
  readonly sealed: Buffer;
}

/** The ways in which an output can be read, the likelier first. */
function readings(out: KnownOutput, ckm: number, ivSent: IvSent): Reading[] {
  const extra = out.raw.length - KNOWN_TEXT.length - TAG_BYTES;
  if (extra === 0) {
    if (out.ivAfter.length !== IV_BYTES) return [];
    const changed = !out.ivAfter.equals(out.ivBefore);
    if (!changed && ivSent !== "random") return [];
    const mechanism = changed ? "aes-gcm-iv-written" : "aes-gcm";
    const dialect = { mechanism, ckm, ivSent, ivBytes: IV_BYTES, ownFormat: false } as const;
    return [{ dialect, iv: out.ivAfter, sealed: out.raw }];
  }
  if (extra !== 12 && extra !== 16) return [];
  const end = out.raw.length - extra;
  const appended = {
    mechanism: "aes-gcm-iv-appended",
    iv: out.raw.subarray(end),
    sealed: out.raw.subarray(0, end),
  } as const;
  const prepended = {
    mechanism: "aes-gcm-iv-prepended",
    iv: out.raw.subarray(0, extra),
    sealed: out.raw.subarray(extra),
  } as const;
  return [false, true].flatMap((ownFormat) =>
    [appended, prepended].map(({ mechanism, iv, sealed }) => ({
      dialect: { mechanism, ckm, ivSent, ivBytes: extra, ownFormat },
      iv,
      sealed,
    })),
  );
}

/**
 * A token that takes its own output back opens it however it is read. Where the IV stands shows in the first
 * block of the ciphertext if the token also performs AES on one block; else the likelier place is taken.
 */
function ownDialect(trial: Trial, likelier: Reading, all: Reading[]): GcmDialect {
  const readings = all.filter(({ dialect }) => dialect.ownFormat);
  const find = (): Reading | undefined => readings.find((reading) => masksKnownText(trial, reading));
  // Twice, since one altered result must not decide how every ciphertext is laid out.
  return (find() ?? find() ?? likelier).dialect;
}

/** Whether the text is masked by AES of this IV's second counter block (SP 800-38D, section 7.1, 96-bit IV). */
function masksKnownText({ session, key }: Trial, { iv, sealed }: Reading): boolean {
  if (iv.length !== IV_BYTES) return false;
  const counter = Buffer.concat([iv, Buffer.of(0, 0, 0, 2)]);
  const mask = aesBlock(session, key, counter, "telling where AES-GCM keeps its IV (C_Encrypt)");
  if (!Buffer.isBuffer(mask)) return false;
  return mask.every((byte, at) => (byte ^ (KNOWN_TEXT[at] ?? 0)) === sealed[at]);
}

function opensAndRefuses(trial: Trial, dialect: GcmDialect, iv: Buffer, sealed: Buffer): boolean {
  const opened = tryOpen(trial, dialect, iv, sealed, KNOWN_AAD);
  if (!Buffer.isBuffer(opened)) {
    doubtful(trial, opened);
    if (opened.fault === "input") {
      trial.doubt ??= new AlteredResult("the token refuses its own AES-GCM ciphertext", opened);
    }
    return false;
  }
  if (!opened.equals(KNOWN_TEXT)) return false;
  const flipped = Buffer.from(sealed);
  flipped[0] = (flipped[0] ?? 0) ^ 1;
  if (Buffer.isBuffer(tryOpen(trial, dialect, iv, flipped, KNOWN_AAD))) return false;
  return !Buffer.isBuffer(tryOpen(trial, dialect, iv, sealed, Buffer.from("another text")));
}

/** Returns the refusal where it does not open. */
function tryOpen(
  { session, key }: Trial,
  dialect: GcmDialect,
  iv: Buffer,
  sealed: Buffer,
  aad: Buffer,
): Buffer | TokenFault {
  const { call, data } = decryptCall(dialect, iv, sealed, aad);
  const out = tryCall(session, "trying AES-GCM (C_Decrypt)", (handle) =>
    gcmDecrypt(session, handle, key, call, data),
  );
  if (out.ok) return out.value;
  if (!mayBeRefusal(out.fault)) throw out.fault;
  return out.fault;
}

/** How this token wants an IV and a sealed text handed over for decryption. */
export function decryptCall(
  dialect: GcmDialect,
  iv: Uint8Array,
  sealed: Uint8Array,
  aad: Uint8Array,
): { call: GcmCall; data: Uint8Array } {
  if (!dialect.ownFormat) return { call: { ckm: dialect.ckm, iv: Buffer.from(iv), aad }, data: sealed };
  const parts = dialect.mechanism === "aes-gcm-iv-prepended" ? [iv, sealed] : [sealed, iv];
  return { call: { ckm: dialect.ckm, iv: makeIv(dialect.ivSent), aad }, data: Buffer.concat(parts) };
}

/** The same IV over the same text must give the same bytes, or the token did not use it. */
function isDeterministic(trial: Trial, ckm: number, first: KnownOutput): boolean {
  const second = encryptKnown(trial, ckm, first.ivBefore);
  return "raw" in second && second.raw.equals(first.raw);
}
