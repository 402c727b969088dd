// The objects of a token report: how they are found, and how they are removed without touching any other object. Before
// each C_DestroyObject the label is read: some tokens ignore parts of a search, and after a token was away a handle may
// mean another object.
import pkcs11js, { type Attribute, type Handle } from "pkcs11js";
import {
  trialKekLabel,
  trialLabels,
  type Outcome,
  type Removal,
  type TrialLabel,
} from "../../hsm/wire-trials.js";
import { TokenFault } from "../ckr.js";
import { endSearch } from "../key-search.js";
import type { Attempt, TokenSession } from "../session.js";
import { faultOutcome } from "./outcome.js";

const SECRET = { "secret key": pkcs11js.CKO_SECRET_KEY } as const;
const RSA = { "private key": pkcs11js.CKO_PRIVATE_KEY, "public key": pkcs11js.CKO_PUBLIC_KEY } as const;
/** More than a report makes. */
const MOST_FOUND = 200;

/** Searches once, for at most MOST_FOUND objects. @param batch objects for each C_FindObjects */
export function search(
  session: TokenSession,
  template: readonly Attribute[],
  batch = MOST_FOUND,
): Attempt<Handle[]> {
  return session.attempt("searching for trial objects (C_FindObjects)", (handle) => {
    session.lib.C_FindObjectsInit(handle, [...template]);
    const found: Handle[] = [];
    while (found.length < MOST_FOUND) {
      const more = session.lib.C_FindObjects(handle, Math.min(batch, MOST_FOUND - found.length));
      if (more.length === 0) break;
      found.push(...more);
    }
    endSearch(session, handle);
    return found;
  });
}

/** The report's keys under one label. */
export interface OwnKeys {
  readonly keys: readonly Handle[];
  /** CKO_SECRET_KEY, or CKO_PRIVATE_KEY if there are no secret keys. */
  readonly objectClass: number;
}

/** Returns the secret keys on the token with a label or, if there are none, the private keys. @throws TokenFault */
export function ownKeys(session: TokenSession, { label }: TrialLabel): OwnKeys {
  const secret = search(session, onToken(pkcs11js.CKO_SECRET_KEY, label));
  if (!secret.ok) throw secret.fault;
  const own = (keys: readonly Handle[]): Handle[] => keys.filter((object) => isOwn(session, object, label));
  const keys = own(secret.value);
  if (keys.length > 0) return { keys, objectClass: pkcs11js.CKO_SECRET_KEY };
  const found = search(session, onToken(pkcs11js.CKO_PRIVATE_KEY, label));
  const privateKeys = found.ok ? own(found.value) : [];
  const isRsa = privateKeys.length > 0;
  return {
    keys: privateKeys,
    objectClass: isRsa ? pkcs11js.CKO_PRIVATE_KEY : pkcs11js.CKO_SECRET_KEY,
  };
}

function onToken(objectClass: number, label: string): Attribute[] {
  return [
    { type: pkcs11js.CKA_CLASS, value: objectClass },
    { type: pkcs11js.CKA_TOKEN, value: true },
    { type: pkcs11js.CKA_LABEL, value: label },
  ];
}

/** Returns whether an object that a search returned is the report's. */
export function isOwn(session: TokenSession, object: Handle, label: string): boolean {
  return readLabel(session, object)?.startsWith(label) === true;
}

/**
 * Destroys an object that C_GenerateKey or C_CopyObject has just returned. Returns the outcome; an object with a foreign
 * label is left alone. The token may have cut the label.
 */
export function destroyNew(session: TokenSession, object: Handle, label: string): Outcome {
  const shown = readLabel(session, object);
  if (shown !== undefined && !shown.startsWith(label) && !(shown !== "" && label.startsWith(shown))) {
    return "its label is not the one that was requested; it was not removed";
  }
  return destroy(session, object);
}

/** Destroys every object on the token with one of the report's labels, and searches again. @throws TokenFault */
export function removeOwn(session: TokenSession, { label }: TrialLabel): Removal {
  let removed = 0;
  const left: string[] = [];
  for (const name of trialLabels({ label })) {
    const classes = name === trialKekLabel({ label }, "rsa-oaep") ? RSA : SECRET;
    for (const [what, objectClass] of Object.entries(classes)) {
      const own = findOwn(session, objectClass, name, label);
      if (own.length === 0) continue;
      const outcomes = own.map((object) => destroy(session, object));
      const still = findOwn(session, objectClass, name, label).length;
      removed += own.length - still;
      const why = outcomes.find((outcome) => outcome !== "ok") ?? "C_DestroyObject had no effect";
      if (still > 0) left.push(`${still} x ${what} labelled "${name}" (${why})`);
    }
  }
  return { removed, left };
}

/** Returns none if the token refuses the search: it holds no such object then. */
function findOwn(session: TokenSession, objectClass: number, name: string, label: string): Handle[] {
  const found = search(session, onToken(objectClass, name));
  if (found.ok) return found.value.filter((object) => isOwn(session, object, label));
  if (found.fault.fault === "setup" || found.fault.fault === "input") return [];
  throw found.fault;
}

/** Requires that an object was removed. @throws TokenFault, so that no further trial leaves objects behind */
export function requireRemoved(outcome: Outcome): void {
  if (outcome === "ok") return;
  throw new TokenFault(`a trial key could not be removed: ${outcome}`, {
    fault: "setup",
    code: "TOKEN_REFUSED",
  });
}

function destroy(session: TokenSession, object: Handle): Outcome {
  const destroyed = session.attempt("removing a trial object (C_DestroyObject)", (handle) => {
    session.lib.C_DestroyObject(handle, object);
  });
  // An invalid handle: the object ended with its session.
  return destroyed.ok || destroyed.fault.fault === "object" ? "ok" : faultOutcome(destroyed.fault);
}

function readLabel(session: TokenSession, object: Handle): string | undefined {
  const read = session.attempt("reading a label (C_GetAttributeValue)", (handle) =>
    session.lib.C_GetAttributeValue(handle, object, [{ type: pkcs11js.CKA_LABEL }]),
  );
  const value = read.ok ? read.value[0]?.value : undefined;
  return Buffer.isBuffer(value) ? value.toString("utf8") : undefined;
}
