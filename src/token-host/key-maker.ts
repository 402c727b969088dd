// Makes a generation of the KEK inside the HSM, with every use that it does not need explicitly false (some
// tokens default them to true). PKCS#11 v2.40 sections 4.9, 5.13.
import pkcs11js, { type Attribute, type Handle } from "pkcs11js";
import type { KekKind, MechanismChoice } from "../hsm/mechanisms.js";
import type { GenerateRequest } from "../hsm/port.js";
import { asNumber } from "./attributes.js";
import { hexOf, rowOf, TokenFault } from "./ckr.js";
import { CKK_SHA256_HMAC, type Kek } from "./kek.js";
import { probe } from "./probe.js";
import { listsOaep, listsSymmetric, makeRsaPairs } from "./rsa-key-maker.js";
import { KEY_BYTES, templates, type WantedKey } from "./secret-key-template.js";
import { type TokenSession, type Attempt } from "./session.js";

/** Attempts at a candidate; if the last one ends in a temporary error, another kind of key is tried. */
const ATTEMPTS = 3;

/** A kind of key and the mechanism that it is made for. */
interface KeyCandidate {
  readonly kind: KekKind;
  readonly choice: MechanismChoice;
  readonly wraps: boolean;
}

/** In order of preference. */
const KEY_CANDIDATES: readonly KeyCandidate[] = [
  { kind: "aes", choice: "aes-gcm", wraps: false },
  { kind: "hmac", choice: "hmac-kdf", wraps: false },
  { kind: "aes", choice: "aes-kwp", wraps: true },
  { kind: "aes+hmac", choice: "aes-cbc-hmac", wraps: false },
  { kind: "rsa", choice: "rsa-oaep", wraps: false },
];

/** The objects of one generation. */
export interface MadeKek {
  readonly objects: readonly Handle[];
  /** The mechanism that they were made for. */
  readonly choice: MechanismChoice;
}

/**
 * Makes the key or keys of one generation, for a reading of the keyring to find and name.
 * @param tokenLabel names the token in an error
 * @throws TokenFault MECHANISM_UNSUPPORTED when the token does not perform the requested mechanism, or none of the
 * table; GENERATION_UNSUPPORTED when it generates none of the keys that could perform it
 */
export function makeKek(session: TokenSession, request: GenerateRequest, tokenLabel: string): MadeKek {
  const candidate = candidateFor(session, request, tokenLabel);
  const id = Buffer.from(request.ckaId, "hex");
  const wanted = { label: request.label, id, onToken: true } as const;
  const objects: Handle[] = [];
  try {
    if (candidate.kind === "rsa") {
      makeRsaPairs(session, wanted, objects);
      return { objects, choice: candidate.choice };
    }
    for (const kind of candidate.kind.split("+") as SecretKind[]) {
      objects.push(makeKey(session, kind, candidate.wraps, wanted));
    }
    return { objects, choice: candidate.choice };
  } catch (error) {
    // A single key of a pair would be listed as another KEK.
    removeKeys(session, objects, "removing one key of an incomplete pair (C_DestroyObject)");
    throw error;
  }
}

/** A kind of secret key. */
export type SecretKind = "aes" | "hmac";

/** Returns the values of CKA_KEY_TYPE for a kind of secret key, in order of preference. */
export function keyTypesOf(kind: SecretKind): readonly number[] {
  return kind === "aes" ? [pkcs11js.CKK_AES] : [pkcs11js.CKK_GENERIC_SECRET, CKK_SHA256_HMAC];
}

/** Makes a secret key from one template. Throws nothing. */
export function generateKey(
  session: TokenSession,
  kind: SecretKind,
  template: readonly Attribute[],
): Attempt<Handle> {
  const mechanism = {
    mechanism: kind === "aes" ? pkcs11js.CKM_AES_KEY_GEN : pkcs11js.CKM_GENERIC_SECRET_KEY_GEN,
  };
  return session.attempt("making a key (C_GenerateKey)", (handle) =>
    session.lib.C_GenerateKey(handle, mechanism, [...template]),
  );
}

/** Destroys objects; ignores failures. */
export function removeKeys(session: TokenSession, objects: readonly Handle[], doing: string): void {
  for (const object of objects) {
    session.attempt(doing, (handle) => {
      session.lib.C_DestroyObject(handle, object);
    });
  }
}

/**
 * Returns the first candidate that works on this token with a session key. Makes no RSA pair.
 * @throws TokenFault as `makeKek`
 */
export function candidateFor(
  session: TokenSession,
  { kind, mechanism = "auto", trialLabel = "kms-pkcs11 trial" }: GenerateRequest,
  tokenLabel: string,
): KeyCandidate {
  const refusals: string[] = [];
  const faults: TokenFault[] = [];
  let failure: TokenFault | undefined;
  for (const candidate of KEY_CANDIDATES) {
    if (kind !== "auto" && candidate.kind !== kind) continue;
    if (mechanism !== "auto" && candidate.choice !== mechanism) continue;
    if (candidate.kind === "rsa" && kind === "auto" && mechanism === "auto" && listsSymmetric(session)) {
      if (listsOaep(session)) refusals.push("rsa-oaep: not tried; request it with --mechanism rsa-oaep");
      continue;
    }
    const refusal = refusalOf(session, candidate, trialLabel);
    if (refusal === undefined) return candidate;
    refusals.push(`${candidate.choice}: ${refusal.message}`);
    faults.push(refusal);
    if (refusal.fault !== "setup") failure ??= refusal;
  }
  // An error of one trial does not concern the token if another trial succeeds.
  if (failure !== undefined) throw failure;
  const [first] = faults;
  if (first !== undefined && faults.every(({ code }) => code === "GENERATION_UNSUPPORTED")) throw first;
  const what = mechanism === "auto" ? "no mechanism of the table works" : `${mechanism} does not work`;
  const step = mechanism === "auto" ? "" : "; set another mechanism, or auto";
  throw new TokenFault(`${what} on token "${tokenLabel}" (${refusals.join("; ")})${step}`, {
    fault: "setup",
    code: "MECHANISM_UNSUPPORTED",
  });
}

/** Returns why a candidate does not work; undefined if it works. Repeats a trial whose error is not clearly a refusal. */
function refusalOf(session: TokenSession, candidate: KeyCandidate, label: string): TokenFault | undefined {
  // An RSA key may take a token minutes to make, so no session key is tried; the new KEK itself is.
  if (candidate.kind === "rsa") return listsOaep(session) ? undefined : noOaep();
  for (let attempts = 1; ; attempts++) {
    const refusal = tryCandidate(session, candidate, label);
    if (refusal === undefined || refusal.fault === "setup" || attempts === ATTEMPTS) return refusal;
  }
}

function noOaep(): TokenFault {
  return new TokenFault("the token does not list CKM_RSA_PKCS_OAEP", {
    fault: "setup",
    code: "MECHANISM_UNSUPPORTED",
  });
}

/** Where the key of a trial is made. */
interface TrialPlace {
  readonly onToken: boolean;
  /** In the session that uses it, instead of one of its own. */
  readonly inSameSession: boolean;
}

/** Tries with session keys or, if the token makes none, with token keys that are destroyed afterwards. */
function tryCandidate(session: TokenSession, candidate: KeyCandidate, label: string): TokenFault | undefined {
  const refusal = tryInSessions(session, candidate, { label, onToken: false });
  return refusal?.code === "TOKEN_REFUSED"
    ? tryInSessions(session, candidate, { label, onToken: true })
    : refusal;
}

/**
 * A session object is destroyed with its session, and a refused call replaces the session; so the keys get a session of
 * their own, unless handles are valid only in the session that returned them (PKCS#11 v2.40, section 5.1).
 */
function tryInSessions(
  session: TokenSession,
  candidate: KeyCandidate,
  wanted: WantedKey,
): TokenFault | undefined {
  const apart = tryWithKeys(session, candidate, { ...wanted, inSameSession: false });
  if (apart?.fault !== "object") return apart;
  session.keepAfterErrors();
  return tryWithKeys(session, candidate, { ...wanted, inSameSession: true });
}

function tryWithKeys(
  session: TokenSession,
  candidate: KeyCandidate,
  wanted: WantedKey & TrialPlace,
): TokenFault | undefined {
  const handles = new Map<string, Handle>();
  const makeAndProbe = (holder: TokenSession): TokenFault | undefined => {
    try {
      for (const kind of candidate.kind.split("+") as SecretKind[]) {
        handles.set(kind, makeKey(holder, kind, candidate.wraps, wanted));
      }
      const [result] = probe(session, trialKek(candidate, handles, session.losses), candidate.choice);
      if (result?.works === true) return undefined;
      return new TokenFault(result?.detail ?? "not tried", { fault: "setup", code: "MECHANISM_UNSUPPORTED" });
    } finally {
      if (wanted.onToken) {
        removeKeys(holder, [...handles.values()], "removing a key of a trial (C_DestroyObject)");
      }
    }
  };
  try {
    return wanted.inSameSession ? makeAndProbe(session) : session.beside(makeAndProbe);
  } catch (error) {
    if (error instanceof TokenFault) return error;
    throw error;
  }
}

function trialKek({ kind }: KeyCandidate, handles: ReadonlyMap<string, Handle>, checkedAt: number): Kek {
  const aes = handles.get("aes");
  const hmac = handles.get("hmac");
  const record = { keyId: "", aliases: [], label: "", ckaId: "", kind, unprotected: [], remarks: [] };
  return { record, ...(aes && { aes }), ...(hmac && { hmac }), discovered: {}, checkedAt };
}

/**
 * Tries the full template first, then templates without attributes that some tokens refuse.
 * @throws TokenFault GENERATION_UNSUPPORTED when the token lacks the function or the mechanism for it
 */
function makeKey(session: TokenSession, kind: SecretKind, wraps: boolean, wanted: WantedKey): Handle {
  let refusal: TokenFault | undefined;
  for (const keyType of keyTypesOf(kind)) {
    for (const template of templates(kind, keyType, wraps, wanted)) {
      const made = generateKey(session, kind, template);
      if (made.ok) return requireLength(session, made.value, wanted);
      if (made.fault.fault !== "setup") throw made.fault;
      refusal ??= made.fault;
      // No template helps against a refused mechanism.
      if (made.fault.code === "MECHANISM_UNSUPPORTED") break;
    }
  }
  refusal ??= new TokenFault("the token makes no such key", { fault: "setup", code: "TOKEN_REFUSED" });
  throw refusal.code === "MECHANISM_UNSUPPORTED" ? notGenerated(refusal) : refusal;
}

function notGenerated(cause: TokenFault): TokenFault {
  const rv = cause.rv ?? 0;
  return new TokenFault(`C_GenerateKey: ${rowOf(rv).name} (${hexOf(rv)})`, {
    fault: "setup",
    code: "GENERATION_UNSUPPORTED",
    rv,
    cause,
  });
}

/** Refuses a key of the wrong length, which a token that refuses CKA_VALUE_LEN may make. */
function requireLength(session: TokenSession, key: Handle, { onToken }: WantedKey): Handle {
  const read = session.attempt("reading the length of a key (C_GetAttributeValue)", (handle) =>
    session.lib.C_GetAttributeValue(handle, key, [{ type: pkcs11js.CKA_VALUE_LEN }]),
  );
  const value = read.ok ? read.value[0]?.value : undefined;
  const bytes = asNumber(Buffer.isBuffer(value) ? value : undefined);
  if (bytes === undefined || bytes === KEY_BYTES) return key;
  if (onToken) removeKeys(session, [key], "removing a key of another length (C_DestroyObject)");
  const text = `the token makes keys of ${8 * bytes} bits, not ${8 * KEY_BYTES}`;
  throw new TokenFault(text, { fault: "setup", code: "TOKEN_REFUSED" });
}
