// Finds a token's IV mode of AES-GCM by a trial: who makes the IV, where the token returns it, and how it expects it
// for decryption. An encryption of a known text under a known IV suggests the mode: the output is longer by the tag and
// the IV is unchanged, the IV is overwritten, or 12 or 16 bytes of IV precede or follow the ciphertext. Decryptions
// confirm it. Behaviour decides, never a vendor's name.
import { isDeepStrictEqual } from "node:util";
import pkcs11js, { type Handle } from "pkcs11js";
import { AlteredResult, isGeneralError, type TokenFault } from "../ckr.js";
import { listedMechanisms, type TokenSession } from "../session.js";
import { aesBlock, isRefusal, mayBeRefusal, tryCall } from "../refusal.js";
import { gcmDecrypt, gcmEncrypt, IV_BYTES, TAG_BYTES } from "./gcm-call.js";
import { decryptCall, makeIv, type GcmIvMode, type IvSent } from "./gcm-iv-mode.js";

/** Google kmsp11's CKM_CLOUDKMS_AES_GCM: refuses an IV that is not zero, and writes its own. */
const VENDOR_GCM = [0x8001e101];
const KNOWN_TEXT = Buffer.from("kms-pkcs11 known text for one trial of AES-GCM");
const KNOWN_AAD = Buffer.from("kms-pkcs11 trial");

/** `unclear`: an error that may be a refusal or temporary; searching again may find a mode. */
export type GcmIvModeResult =
  { readonly mode: GcmIvMode } | { readonly refusal: string; readonly unclear?: TokenFault };
type Outcome = { readonly mode: GcmIvMode } | { readonly refusal: string };

interface ModeSearch {
  readonly session: TokenSession;
  readonly key: Handle;
  /** A call succeeded, but its output fits no known mode. */
  hasUnknownOutput: boolean;
  unclear?: TokenFault;
}

/**
 * Returns the IV mode of AES-GCM with this key, or why there is none.
 * @throws TokenFault when the token is away or logged out
 */
export function findGcmIvMode(session: TokenSession, key: Handle): GcmIvModeResult {
  const search: ModeSearch = { session, key, hasUnknownOutput: false };
  let outcome = tryIvModes(search);
  // A single altered result looks like an unknown mode; a second search finds the token's own.
  if (!("mode" in outcome) && search.hasUnknownOutput) outcome = tryIvModes(search);
  if ("mode" in outcome || search.unclear === undefined) return outcome;
  return { ...outcome, unclear: search.unclear };
}

/**
 * Returns whether a key works in the mode that another key of the token has. With that other key, the token has already
 * refused another IV, other associated data and a changed ciphertext. @throws TokenFault when the token is away or
 * logged out
 */
export function hasGcmIvMode(session: TokenSession, key: Handle, mode: GcmIvMode): boolean {
  const search: ModeSearch = { session, key, hasUnknownOutput: false };
  const out = encryptKnown(search, mode.ckm, mode.ivSent);
  if ("refusal" in out) return false;
  const same = interpretations(out, mode.ckm, mode.ivSent).find((one) => isDeepStrictEqual(one.mode, mode));
  const opened = same && tryOpen(search, mode, same.iv, same.sealed, KNOWN_AAD);
  return Buffer.isBuffer(opened) && opened.equals(KNOWN_TEXT);
}

function tryIvModes(search: ModeSearch): Outcome {
  const offered = listedMechanisms(search.session);
  let refusal = "the token does not list CKM_AES_GCM";
  for (const ckm of [pkcs11js.CKM_AES_GCM, ...VENDOR_GCM]) {
    if (offered !== undefined && !offered.has(ckm)) continue;
    for (const ivSent of ["random", "zero", "none"] as const) {
      const outcome = tryIvMode(search, ckm, ivSent);
      if ("mode" in outcome) return outcome;
      refusal = outcome.refusal;
    }
  }
  return { refusal };
}

function tryIvMode(search: ModeSearch, ckm: number, ivSent: IvSent): Outcome {
  const first = encryptKnown(search, ckm, ivSent);
  if ("refusal" in first) return first;
  const candidates = interpretations(first, ckm, ivSent);
  for (const candidate of candidates) {
    if (opensAndRefuses(search, candidate.mode, candidate.iv, candidate.sealed)) {
      return {
        mode: candidate.mode.ownFormat ? ownFormatMode(search, candidate, candidates) : candidate.mode,
      };
    }
  }
  return unknownMode(
    search,
    "the token does not decrypt its own AES-GCM output, or accepts it with another IV or after a change",
  );
}

function unknownMode(search: ModeSearch, refusal: string): Outcome {
  search.hasUnknownOutput = true;
  return { refusal };
}

interface KnownOutput {
  readonly ivBefore: Buffer;
  readonly ivAfter: Buffer;
  readonly raw: Buffer;
}

function encryptKnown(search: ModeSearch, ckm: number, sent: IvSent): KnownOutput | { refusal: string } {
  const iv = makeIv(sent);
  const ivBefore = Buffer.from(iv);
  const { session, key } = search;
  const out = tryCall(session, "trying AES-GCM (C_Encrypt)", (handle) =>
    gcmEncrypt(session, handle, key, { ckm, iv, aad: KNOWN_AAD }, KNOWN_TEXT),
  );
  if (out.ok) return { ivBefore, ivAfter: iv, raw: out.value };
  if (!mayBeRefusal(out.fault)) throw out.fault;
  noteUnclear(search, out.fault);
  return { refusal: out.fault.finding };
}

function noteUnclear(search: ModeSearch, fault: TokenFault): void {
  if (isGeneralError(fault)) search.unclear ??= fault;
  // The token may be broken, which weighs more than a general error.
  else if (!isRefusal(fault)) search.unclear = fault;
}

interface Interpretation {
  readonly mode: GcmIvMode;
  readonly iv: Buffer;
  readonly sealed: Buffer;
}

/** Returns the possible interpretations of an output, the likelier first. */
function interpretations(out: KnownOutput, ckm: number, ivSent: IvSent): Interpretation[] {
  const extra = out.raw.length - KNOWN_TEXT.length - TAG_BYTES;
  if (extra === 0) {
    if (out.ivAfter.length !== IV_BYTES) return [];
    const changed = !out.ivAfter.equals(out.ivBefore);
    if (!changed && ivSent !== "random") return [];
    const mechanism = changed ? "aes-gcm-iv-written" : "aes-gcm";
    const mode = { mechanism, ckm, ivSent, ivBytes: IV_BYTES, ownFormat: false } as const;
    return [{ mode, iv: out.ivAfter, sealed: out.raw }];
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
      mode: { mechanism, ckm, ivSent, ivBytes: extra, ownFormat },
      iv,
      sealed,
    })),
  );
}

/**
 * A token that expects its own output decrypts it under every interpretation. If the token also encrypts single AES
 * blocks, the first block of the ciphertext shows where the IV is; otherwise the likelier position is assumed.
 */
function ownFormatMode(search: ModeSearch, likelier: Interpretation, all: Interpretation[]): GcmIvMode {
  const own = all.filter(({ mode }) => mode.ownFormat);
  const find = (): Interpretation | undefined => own.find((one) => masksKnownText(search, one));
  // Twice, since a single altered result must not decide the layout of every ciphertext.
  return (find() ?? find() ?? likelier).mode;
}

/** Returns whether the text is masked by AES of this IV's second counter block (SP 800-38D, section 7.1, 96-bit IV). */
function masksKnownText({ session, key }: ModeSearch, { iv, sealed }: Interpretation): boolean {
  if (iv.length !== IV_BYTES) return false;
  const counter = Buffer.concat([iv, Buffer.of(0, 0, 0, 2)]);
  const mask = aesBlock(session, key, counter, "locating the IV in the AES-GCM output (C_Encrypt)");
  if (!Buffer.isBuffer(mask) || mask.length !== counter.length) return false;
  return mask.every((byte, at) => (byte ^ (KNOWN_TEXT[at] ?? 0)) === sealed[at]);
}

/** A token that ignores the IV, and may encrypt everything under the same one, decrypts under another IV too. */
function opensAndRefuses(search: ModeSearch, mode: GcmIvMode, iv: Buffer, sealed: Buffer): boolean {
  const opened = tryOpen(search, mode, iv, sealed, KNOWN_AAD);
  if (!Buffer.isBuffer(opened)) {
    noteUnclear(search, opened);
    if (opened.fault === "input") {
      search.unclear ??= new AlteredResult("the token refuses its own AES-GCM ciphertext", opened);
    }
    return false;
  }
  if (!opened.equals(KNOWN_TEXT)) return false;
  const refuses = (otherIv: Buffer, otherSealed: Buffer, aad: Buffer): boolean =>
    !Buffer.isBuffer(tryOpen(search, mode, otherIv, otherSealed, aad));
  return (
    refuses(iv, changed(sealed), KNOWN_AAD) &&
    refuses(changed(iv), sealed, KNOWN_AAD) &&
    refuses(iv, sealed, Buffer.from("another text"))
  );
}

function changed(bytes: Buffer): Buffer {
  const copy = Buffer.from(bytes);
  copy[0] = (copy[0] ?? 0) ^ 1;
  return copy;
}

/** Returns the plaintext, or why it does not decrypt. */
function tryOpen(
  { session, key }: ModeSearch,
  mode: GcmIvMode,
  iv: Buffer,
  sealed: Buffer,
  aad: Buffer,
): Buffer | TokenFault {
  const { call, data } = decryptCall(mode, iv, sealed, aad);
  const out = tryCall(session, "trying AES-GCM (C_Decrypt)", (handle) =>
    gcmDecrypt(session, handle, key, call, data),
  );
  if (out.ok) return out.value;
  if (!mayBeRefusal(out.fault)) throw out.fault;
  return out.fault;
}
