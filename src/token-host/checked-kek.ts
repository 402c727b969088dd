// Makes a KEK and requires that the token made what was requested: a new reading finds it as one KEK, with all its objects,
// and it performs its mechanism. What does not pass is removed again.
import type { MechanismChoice } from "../hsm/mechanisms.js";
import type { GenerateRequest, KekRecord } from "../hsm/port.js";
import { toFault, TokenFault } from "./ckr.js";
import { destroyKeks } from "./destroyer.js";
import { NOT_LOCAL } from "./found-key.js";
import type { KekUse } from "./kek-use.js";
import { makeKek, type MadeKek } from "./key-maker.js";
import type { LaneKeyring } from "./lane-keyring.js";
import { probe } from "./probe.js";
import { SET_ANOTHER_MECHANISM } from "./next-step.js";
import { removeObjects } from "./remove-objects.js";
import type { TokenSession } from "./session.js";

/** Maximum time that a new key is searched for, and the pause between two searches, in ms. */
const MADE_WITHIN_MS = 5_000;
const MADE_PAUSE_MS = 250;

/** What making a KEK uses of its lane. */
interface MakingLane {
  readonly session: TokenSession;
  readonly keyring: LaneKeyring;
  readonly use: KekUse;
}

/**
 * Makes a generation, checks it, and returns it as a new reading of the token lists it.
 * @param tokenLabel names the token in an error
 * @throws TokenFault as `makeKek`; KEY_MISSING, TOKEN_REFUSED or the probe's code when the KEK does not pass
 */
export function makeCheckedKek(lane: MakingLane, request: GenerateRequest, tokenLabel: string): KekRecord {
  const { session, keyring } = lane;
  const before = new Set(keyring.labelled(request.label).map(({ keyId }) => keyId));
  const { objects, choice } = makeKek(session, request, tokenLabel);
  const made = findMade(keyring, request.label, before);
  if (made === undefined) {
    removeObjects(session, objects, "removing a key that is not found (C_DestroyObject)");
    throw new TokenFault(
      `the token made a key that cannot be found under its label "${request.label}"; it was removed; if this happens again, the token changes labels: see 'kms-pkcs11 check --token-report'`,
      { fault: "device", code: "KEY_MISSING" },
    );
  }
  requireAllObjects(lane, made, { objects, choice });
  requireMechanism(lane, made.keyId, choice, tokenLabel);
  // The token has just generated the key, whatever CKA_LOCAL says.
  return { ...made, remarks: made.remarks.filter((remark) => remark !== NOT_LOCAL) };
}

/** Finds a generation that has just been made. A cluster of HSMs may show a new key only when all of them have it. */
function findMade(keyring: LaneKeyring, label: string, before: ReadonlySet<string>): KekRecord | undefined {
  const until = performance.now() + MADE_WITHIN_MS;
  for (;;) {
    const made = keyring.labelled(label).find(({ keyId }) => !before.has(keyId));
    if (made !== undefined || performance.now() > until) return made;
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, MADE_PAUSE_MS);
  }
}

/** Requires that a KEK of several objects is listed with all of them. */
function requireAllObjects(
  { session, keyring }: MakingLane,
  made: KekRecord,
  { objects, choice }: MadeKek,
): void {
  if (choice === "aes-cbc-hmac" && made.kind !== "aes+hmac") {
    // NSS softokn 3.87 lets the second key replace the first.
    destroyKeks(session, keyring, { keyIds: [made.keyId] });
    throw new TokenFault(
      "the token does not keep an AES and an HMAC key under one CKA_ID; choose another mechanism",
      { fault: "setup", code: "TOKEN_REFUSED" },
    );
  }
  const { decrypts, signs } = keyring.known(made.keyId) ?? {};
  if (choice === "rsa-oaep" && (decrypts === undefined || signs === undefined)) {
    removeObjects(session, objects, "removing two RSA key pairs (C_DestroyObject)");
    throw new TokenFault(
      "the token does not list both RSA key pairs of the KEK under its label; they were removed",
      { fault: "setup", code: "TOKEN_REFUSED" },
    );
  }
}

/** Requires the mechanism of the made KEK: a token object may fail although a session object of its template worked. */
function requireMechanism(
  { session, keyring, use }: MakingLane,
  keyId: string,
  choice: MechanismChoice,
  tokenLabel: string,
): void {
  let refusal: unknown;
  try {
    const [result] = use.withKek(keyId, (kek) => probe(session, kek, choice));
    if (result?.works === true) return;
    refusal = new TokenFault(result?.detail ?? "it was not tried", {
      fault: "setup",
      code: "MECHANISM_UNSUPPORTED",
    });
  } catch (error) {
    refusal = error;
  }
  const { fault, code, finding } = toFault(refusal, `trying ${choice}`);
  const text = `KEK ${keyId}, made on token "${tokenLabel}", does not perform ${choice} (${finding})`;
  try {
    destroyKeks(session, keyring, { keyIds: [keyId] });
  } catch (error) {
    const left = `${text}; the key is still there; remove it with 'kms-pkcs11 keys destroy ${keyId}'`;
    throw new TokenFault(left, { fault, code, cause: error });
  }
  const advice = SET_ANOTHER_MECHANISM;
  throw new TokenFault(`${text}; the key was destroyed`, { fault, code, advice });
}
