// The keys that a KEK may consist of, in order of preference, and the trials that show which of them a token makes and can
// use. A trial's keys are session keys where the token makes them; others are destroyed after it.
import type { Handle } from "pkcs11js";
import type { KekKind, MechanismChoice } from "../hsm/mechanisms.js";
import type { GenerateRequest } from "../hsm/port.js";
import { TokenFault } from "./ckr.js";
import type { Kek } from "./kek.js";
import { SET_ANOTHER_MECHANISM } from "./next-step.js";
import { probe } from "./probe.js";
import { removeObjects } from "./remove-objects.js";
import { listsOaep, listsSymmetric } from "./rsa-key-maker.js";
import { makeSecretKey, type SecretKind } from "./secret-key-maker.js";
import type { WantedKey } from "./secret-key-template.js";
import type { TokenSession } from "./session.js";

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

/**
 * Returns the first candidate that works on this token with a session key. Makes no RSA pair.
 * @param tokenLabel names the token in an error
 * @throws TokenFault MECHANISM_UNSUPPORTED when the token does not perform the requested mechanism, or none of the
 * table; GENERATION_UNSUPPORTED when it generates none of the keys that could perform it
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
    refusals.push(`${candidate.choice}: ${refusal.finding}`);
    faults.push(refusal);
    if (refusal.fault !== "setup") failure ??= refusal;
  }
  // An error of one trial does not concern the token if another trial succeeds.
  if (failure !== undefined) throw failure;
  const [first] = faults;
  if (first !== undefined && faults.every(({ code }) => code === "GENERATION_UNSUPPORTED")) throw first;
  const what = mechanism === "auto" ? "no mechanism of the table works" : `${mechanism} does not work`;
  throw new TokenFault(`${what} on token "${tokenLabel}" (${refusals.join("; ")})`, {
    advice: mechanism === "auto" ? undefined : SET_ANOTHER_MECHANISM,
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
        handles.set(kind, makeSecretKey(holder, kind, candidate.wraps, wanted));
      }
      const [result] = probe(session, trialKek(candidate, handles, session.losses), candidate.choice);
      if (result?.works === true) return undefined;
      return new TokenFault(result?.detail ?? "not tried", { fault: "setup", code: "MECHANISM_UNSUPPORTED" });
    } finally {
      if (wanted.onToken) {
        removeObjects(holder, [...handles.values()], "removing a key of a trial (C_DestroyObject)");
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
