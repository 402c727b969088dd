// Reads the generations of the KEK from the token: every AES or HMAC key and every RSA private key whose label is the
// object name, or the object name and an activation instant after "@". C_FindObjects cannot match prefixes, so all of
// them are listed and their labels read, except those known to belong to other applications. A reading pauses after
// every object, so that requests are served in between, and skips objects that vanish or cannot be read.
import pkcs11js, { type Attribute, type Handle } from "pkcs11js";
import type { ReadingProgress } from "../hsm/wire-calls.js";
import { asBoolean, asNumber, readAttributes, readSteadily } from "./attributes.js";
import { CKR_TABLE } from "./ckr-table.js";
import { AlteredResult, loggedOut, TokenFault } from "./ckr.js";
import { FingerprintMemory, fingerprintsOfAes, fingerprintsOfHmac } from "./fingerprint.js";
import type { ForeignObjects } from "./foreign-objects.js";
import { CKK_SHA256_HMAC, type Kek } from "./kek.js";
import { RSA_KEY_ATTRIBUTES, SECRET_KEY_ATTRIBUTES, type AttributeName, type FoundKey } from "./found-key.js";
import { nameGeneration, pairKeys } from "./kek-naming.js";
import { findKeys, findPrivateKeys, type Listed } from "./key-search.js";
import { unpad } from "./slots.js";
import { limitPublicKeys } from "./public-keys.js";
import type { TokenSession } from "./session.js";
import { isRefusal } from "./refusal.js";
import { checkCount, isOurs, isWanted, nameIn, type WantedKeys } from "./wanted-keys.js";

/** Attributes that must be known before a key is used, unless the token does not support them. */
const NEEDED = [
  pkcs11js.CKA_LABEL,
  pkcs11js.CKA_ID,
  pkcs11js.CKA_PRIVATE,
  pkcs11js.CKA_SENSITIVE,
  pkcs11js.CKA_EXTRACTABLE,
];
/** If more objects than this fail, the token itself is considered to fail. */
const MOST_UNREADABLE = 100;
/** Maximum number of searches while objects vanish during the reading. */
const MOST_SEARCHES = 3;

/** What a lane remembers from one reading to the next. */
export interface ReadingMemory {
  readonly foreign: ForeignObjects;
  readonly fingerprints: FingerprintMemory;
}

/** The result of a reading. */
export interface ReadKeyring {
  readonly keks: readonly Kek[];
  /** Number of secret keys that the search returned. */
  readonly objects: number;
  /** Faults of those that could not be read. */
  readonly unreadable: readonly TokenFault[];
}

/**
 * Reads all generations, or those that a narrower search returns; yields after every object.
 * @throws TokenFault `login` when the application is logged out, since private keys are then not found without any
 * error; the first object's fault if no object could be read
 */
export function* readKeyring(
  session: TokenSession,
  wanted: WantedKeys,
  memory: ReadingMemory,
  narrower: readonly Attribute[] = [],
): Generator<ReadingProgress, ReadKeyring> {
  for (let left = narrower.length > 0 ? 0 : MOST_SEARCHES - 1; ; left--) {
    const reading = new Reading(session, wanted, memory);
    const read = yield* reading.run(narrower);
    if (reading.vanished === undefined) return read;
    if (left > 0) continue;
    if (reading.readable === 0 || read.keks.length === 0) throw reading.vanished;
    return read;
  }
}

/** One search and the objects that it returned. */
class Reading {
  readonly #session: TokenSession;
  readonly #wanted: WantedKeys;
  readonly #memory: ReadingMemory;
  readonly #unreadable: TokenFault[] = [];
  readable = 0;
  /** The fault of an object that another process has destroyed since the search. */
  vanished: TokenFault | undefined;

  constructor(session: TokenSession, wanted: WantedKeys, memory: ReadingMemory) {
    this.#session = session;
    this.#wanted = wanted;
    this.#memory = memory;
  }

  *run(narrower: readonly Attribute[]): Generator<ReadingProgress, ReadKeyring> {
    const { foreign, fingerprints } = this.#memory;
    const objects = findKeys(this.#session, narrower);
    // Immediately, since requests between the steps may log in again.
    this.#checkLogin();
    if (narrower.length === 0) foreign.keepOnly(objects.map(({ handle }) => handle));
    const found: FoundKey[] = [];
    for (const [seen, object] of objects.entries()) {
      // A handle that a narrower search returns may have been reused.
      if (narrower.length === 0 && foreign.has(object.handle)) continue;
      const key = this.#attempt(() => describe(this.#session, object, this.#wanted));
      if (key !== undefined && key !== "foreign") found.push(key);
      if (key === "foreign") foreign.add(object.handle);
      else foreign.delete(object.handle);
      yield { seen: seen + 1, objects: objects.length };
    }
    if (narrower.length > 0) found.push(...this.#partnersOf(found));
    this.#checkLogin();
    const kept = [...this.#wanted.names.keys()].flatMap((name) => this.#limit(found, name));
    checkCount(kept.length, this.#wanted);
    const keks: Kek[] = [];
    for (const keys of pairKeys(kept)) {
      if (!isWanted(keys, this.#wanted)) continue;
      const kek = this.#attempt(() => nameGeneration(this.#session, keys, fingerprints));
      if (kek !== undefined) keks.push(kek);
      yield { seen: objects.length, objects: objects.length };
    }
    const [fault] = this.#unreadable;
    if (fault !== undefined && (this.readable === 0 || (keks.length === 0 && found.length > 0))) throw fault;
    return { keks, objects: objects.length, unreadable: this.#unreadable };
  }

  /** Returns the keys with one name, without the public ones beyond their limit. */
  #limit(found: readonly FoundKey[], name: string): readonly FoundKey[] {
    const { kept, faults } = limitPublicKeys(
      found.filter(({ label }) => nameIn(label) === name),
      name,
    );
    this.#unreadable.push(...faults);
    return kept;
  }

  /** Returns the other RSA keys under these labels: the two keys of a KEK may have different CKA_IDs. */
  #partnersOf(found: readonly FoundKey[]): FoundKey[] {
    const isKnown = (handle: Handle): boolean => found.some((key) => key.handle.equals(handle));
    const labels = new Set(found.filter((key) => key.kind === "rsa").map((key) => key.label));
    return [...labels].flatMap((value) =>
      findPrivateKeys(this.#session, [{ type: pkcs11js.CKA_LABEL, value }])
        .filter(({ handle }) => !isKnown(handle))
        .map((object) => this.#attempt(() => describe(this.#session, object, this.#wanted)))
        .filter((key) => key !== undefined && key !== "foreign"),
    );
  }

  /** Reads one object. Its fault must not hide the other objects. */
  #attempt<T>(read: () => T): T | undefined {
    try {
      const value = read();
      this.readable++;
      return value;
    } catch (error) {
      if (!(error instanceof TokenFault)) throw error;
      if (error.fault === "object") this.vanished = error;
      else if (isOfObject(error) && this.#unreadable.length < MOST_UNREADABLE) this.#unreadable.push(error);
      else throw error;
      return undefined;
    }
  }

  #checkLogin(): void {
    if (!this.#wanted.loginRequired || this.#session.isLoggedIn()) return;
    throw loggedOut();
  }
}

/** Returns whether a fault may concern one object rather than the token or the session. */
function isOfObject(fault: unknown): boolean {
  if (!(fault instanceof TokenFault)) return false;
  const isUnknown = fault.rv !== undefined && !(fault.rv in CKR_TABLE);
  return isRefusal(fault) || fault instanceof AlteredResult || isUnknown;
}

/** Returns "foreign" for a key with another name, and undefined for a key with the name that is not a KEK. */
function describe(
  session: TokenSession,
  { handle: object, isPrivateKey }: Listed,
  wanted: WantedKeys,
): FoundKey | "foreign" | undefined {
  const first = readAttributes(session, object, [pkcs11js.CKA_LABEL]);
  if (!isOurs(labelIn(first), wanted)) return "foreign";
  const read: Partial<Record<AttributeName, number>> = isPrivateKey
    ? RSA_KEY_ATTRIBUTES
    : SECRET_KEY_ATTRIBUTES;
  const types = Object.values(read);
  const values = readSteadily(session, object, [pkcs11js.CKA_LABEL, ...types], NEEDED);
  const label = labelIn(values);
  if (!isOurs(label, wanted)) return undefined;
  const attributes = new Map(
    Object.entries(read).map(([name, type]) => [name as AttributeName, values.get(type)]),
  );
  const ckaId = attributes.get("id") ?? Buffer.alloc(0);
  if (asBoolean(attributes.get("token")) === false) return undefined;
  const keyType = attributes.get("keyType");
  const kind = isPrivateKey
    ? privateKindOf(asNumber(keyType))
    : keyType === undefined
      ? kindByOperation(session, object)
      : kindOf(asNumber(keyType));
  return kind && { handle: object, label, ckaId, kind, attributes };
}

/** If the token does not show the type of a private key, the modulus decides. */
function privateKindOf(keyType: number | undefined): "rsa" | undefined {
  return keyType === undefined || keyType === pkcs11js.CKK_RSA ? "rsa" : undefined;
}

function labelIn(attributes: ReadonlyMap<number, Buffer | undefined>): string {
  return unpad(attributes.get(pkcs11js.CKA_LABEL)?.toString("utf8") ?? "");
}

function kindOf(keyType: number | undefined): "aes" | "hmac" | undefined {
  if (keyType === pkcs11js.CKK_AES) return "aes";
  return keyType === pkcs11js.CKK_GENERIC_SECRET || keyType === CKK_SHA256_HMAC ? "hmac" : undefined;
}

/** Decides by what the key performs: the YubiHSM 2 library 2.8.0 cannot read the CKA_KEY_TYPE of an HMAC key. */
function kindByOperation(session: TokenSession, object: Handle): "aes" | "hmac" {
  try {
    if (fingerprintsOfAes(session, object, new FingerprintMemory()).length > 0) return "aes";
  } catch (error) {
    // A temporary error must not turn an AES key into an HMAC key.
    const isHmac = isOfObject(error) && fingerprintsOfHmac(session, object).length > 0;
    if (!isHmac) throw error;
  }
  return "hmac";
}
