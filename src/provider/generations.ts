// Derives the schedule from the labels on the token: which generation is active, which are standby, which retired. It
// is a pure function of immutable attributes and the time, so that every node that reads the token computes the same
// answer without a file, a pointer or an election.
import { KmsError } from "../errors.js";
import { hasKeyId, namesValue, onlyMayBeNamed } from "../hsm/key-id.js";
import { PUBLIC_KEY, type KekRecord } from "../hsm/port.js";
import { parseInstant } from "./kek-label.js";

/** A KEK that may be used, with its activation. */
export interface Generation {
  readonly record: KekRecord;
  /** ms since the epoch; -Infinity for a plain label, which counts as active since the beginning. */
  readonly activation: number;
}

/** The state of a generation. */
export type GenerationState = "standby" | "active" | "retired";

/** How labels and attributes of keys on the token are interpreted. */
export interface SchedulePolicy {
  readonly objectName: string;
  /** The key_id or CKA_ID (hex) that chooses among several keys with a plain label. */
  readonly pinned?: string;
  /**
   * key_ids of keys that may be used although their attributes do not protect them. An entry may also be a label, which
   * allows only keys that nobody can have made without a PIN.
   */
  readonly allowUnprotected: readonly string[];
}

/** The keys on the token: generations in order, and refused keys. */
export interface Schedule {
  /** Latest activation first. */
  readonly generations: readonly Generation[];
  /** Keys with the object name that may not be used, with the reason. */
  readonly refused: readonly { readonly record: KekRecord; readonly reason: string }[];
}

/** Sorts the keys on the token into generations that may be used and keys that may not. */
export function readSchedule(records: readonly KekRecord[], policy: SchedulePolicy): Schedule {
  const generations = new Map<string, Generation>();
  const refused: { record: KekRecord; reason: string }[] = [];
  for (const record of records) {
    const activation = activationOf(record.label, policy.objectName);
    const reason =
      activation === undefined
        ? `its label "${record.label}" has no activation instant, such as @20261121T100000Z; relabel or destroy it`
        : forbidden(record, policy);
    if (reason !== undefined) refused.push({ record, reason });
    else addGeneration(generations, { record, activation: activation ?? -Infinity });
  }
  return { generations: [...generations.values()].sort(byActivation), refused };
}

/**
 * Keeps one of several copies of a key: the protected one, since somebody without the PIN may have made the other, or
 * the earliest. The order of a token's objects differs from node to node, and a superseded key must not become active
 * again through a copy.
 */
function addGeneration(generations: Map<string, Generation>, generation: Generation): void {
  const { keyId } = generation.record;
  const known = generations.get(keyId);
  const precedes =
    known === undefined ||
    (isProtected(generation) === isProtected(known)
      ? generation.activation < known.activation
      : isProtected(generation));
  if (precedes) generations.set(keyId, generation);
}

function isProtected({ record }: Generation): boolean {
  return record.unprotected.length === 0;
}

/** Returns the activation instant in a label: -Infinity for a plain label, undefined if the label has none. */
export function activationOf(label: string, objectName: string): number | undefined {
  return label === objectName ? -Infinity : parseInstant(label.slice(objectName.length + 1));
}

/**
 * Returns the key_ids by which a KEK may be allowed or approved. Each alias of an AES and HMAC pair names only one of
 * its keys, and anybody may have paired that one with a key of their own.
 */
export function ownKeyIds({ keyId, aliases, kind }: KekRecord): string[] {
  return kind === "aes+hmac" ? [keyId] : [keyId, ...aliases];
}

function forbidden(record: KekRecord, { allowUnprotected }: SchedulePolicy): string | undefined {
  const { keyId, label } = record;
  if (record.unprotected.length === 0) return undefined;
  const why = record.unprotected.join(", ");
  const isPublic = record.unprotected.includes(PUBLIC_KEY);
  if (isPublic && !namesValue(keyId)) {
    return `${why}, and the HSM computes no fingerprint that distinguishes it from a key that somebody made without a PIN; make a protected key`;
  }
  if (ownKeyIds(record).some((name) => allowUnprotected.includes(name))) return undefined;
  if (!allowUnprotected.includes(label)) {
    return `${why}; make a protected key, or list its key_id ${keyId} in keys.allowUnprotected`;
  }
  if (!isPublic) return undefined;
  return `${why}, so anybody may have made it under this label without a PIN; if it is yours, list its key_id ${keyId} instead of "${label}" in keys.allowUnprotected`;
}

/** Orders the latest activation first; keys with the same activation by protection and key_id, so that nodes agree. */
function byActivation(a: Generation, b: Generation): number {
  if (a.activation !== b.activation) return b.activation > a.activation ? 1 : -1;
  if (isProtected(a) !== isProtected(b)) return isProtected(a) ? -1 : 1;
  return a.record.keyId < b.record.keyId ? 1 : -1;
}

/**
 * Returns the generation with the latest activation that is not in the future.
 * @param now ms since the epoch
 * @throws KmsError KEY_MISSING if there is none; KEY_AMBIGUOUS if several keys have a plain label
 */
export function activeAt(schedule: Schedule, policy: SchedulePolicy, now: number): Generation {
  const due = schedule.generations.filter((generation) => generation.activation <= now);
  const [active] = due;
  if (active === undefined) throw missing(schedule, policy);
  if (active.activation !== -Infinity) return active;
  return choosePlain(due, policy);
}

function choosePlain(plain: readonly Generation[], { objectName, pinned }: SchedulePolicy): Generation {
  const named = pinned === undefined ? plain : plain.filter(({ record }) => isCalled(record, pinned));
  const secure = named.filter(isProtected);
  const [only, another] = secure.length > 0 ? secure : named;
  if (only !== undefined && another === undefined) return only;
  if (pinned !== undefined) {
    throw new KmsError(
      "KEY_AMBIGUOUS",
      `keys.active (${pinned}) matches ${named.length} keys labelled "${objectName}" instead of one; copy a key_id from 'kms-pkcs11 keys list'`,
    );
  }
  const names = plain.map(({ record }) => record.keyId).join(" and ");
  throw new KmsError(
    "KEY_AMBIGUOUS",
    `several keys are labelled "${objectName}" (key_id ${names}); set keys.active to the one to encrypt with`,
  );
}

/** Returns whether a key_id, an alias or a CKA_ID in hex names the key. */
export function isCalled(record: KekRecord, name: string): boolean {
  return hasKeyId(record, name) || record.ckaId === name.toLowerCase();
}

function missing(schedule: Schedule, { objectName }: SchedulePolicy): KmsError {
  const [refusal] = schedule.refused;
  if (refusal !== undefined) {
    return new KmsError(
      "KEY_UNSUITABLE",
      `key "${refusal.record.label}" (key_id ${refusal.record.keyId}) is refused: ${refusal.reason}`,
    );
  }
  const [standby] = schedule.generations;
  if (standby !== undefined) {
    const at = new Date(standby.activation).toISOString();
    return new KmsError(
      "KEY_MISSING",
      `the only KEK "${standby.record.label}" becomes active at the first check of the token after ${at}; if that was long ago, check this node's clock`,
    );
  }
  return new KmsError(
    "KEY_MISSING",
    `the token holds no KEK "${objectName}"; if that name (object in the URI) is right, make the KEK with 'kms-pkcs11 keys create'`,
  );
}

/** Returns the state of a generation, given the generation that is in fact active, whatever the schedule says. */
export function stateOf(
  generation: Generation,
  active: Generation | undefined,
  now: number,
): GenerationState {
  if (generation.record.keyId === active?.record.keyId) return "active";
  return generation.activation > (active?.activation ?? now) ? "standby" : "retired";
}

/** Returns the generation with this key_id or alias; undefined if there is none. */
export function findByKeyId(schedule: Schedule, keyId: string): Generation | undefined {
  return schedule.generations.find(({ record }) => hasKeyId(record, keyId));
}

/**
 * Returns the generation that decrypts what is stored under a key_id: the one that has it, or the only one that may have
 * had it before its HSM computed the fingerprint by another method. The associated data contain the stored key_id, so
 * that a wrong KEK is refused.
 */
export function findForDecrypt(schedule: Schedule, keyId: string): Generation | undefined {
  return findByKeyId(schedule, keyId) ?? onlyMayBeNamed(schedule.generations, keyId);
}

/** Returns the generations of one schedule that the other does not contain. */
export function generationsOnlyIn(one: Schedule, other: Schedule): Generation[] {
  return one.generations.filter(({ record }) => findByKeyId(other, record.keyId) === undefined);
}

/**
 * Returns the instants, up to now, of the generations after the one with this activation, in ms since the epoch. The
 * earliest of them is when it was replaced.
 */
export function laterInstants(
  activation: number,
  generations: readonly Pick<Generation, "activation">[],
  now: number,
): number[] {
  return generations
    .map((generation) => generation.activation)
    .filter((instant) => instant > activation && instant <= now && Number.isFinite(instant));
}

/** Returns every key_id by which stored objects may name a key on the token, refused keys included. */
export function namesOf({ generations, refused }: Schedule): string[] {
  return [...generations, ...refused].flatMap(({ record }) => [record.keyId, ...record.aliases]);
}

/** Whether a generation has a later instant than another; at the same instant all nodes order them by key_id. */
export function isLater(a: Generation, b: Generation): boolean {
  if (a.activation !== b.activation) return a.activation > b.activation;
  return a.record.keyId > b.record.keyId;
}
