// Derives the schedule from the labels on the token: which generation is active, which are standby, which retired. It
// is a pure function of immutable attributes and the time, so that every node that reads the token computes the same
// answer without a file, a pointer or an election.
import { KmsError } from "../errors.js";
import type { KekRecord } from "../hsm/port.js";
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
  /** Labels of keys that may be used although their attributes do not protect them. */
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
    else addEarliest(generations, { record, activation: activation ?? -Infinity });
  }
  return { generations: [...generations.values()].sort(byActivation), refused };
}

/**
 * Keeps the earliest of several copies of one key. The order of a token's objects differs from node to node, and a
 * superseded key must not become active again through a copy.
 */
function addEarliest(generations: Map<string, Generation>, generation: Generation): void {
  const { keyId } = generation.record;
  const known = generations.get(keyId);
  if (known === undefined || generation.activation < known.activation) generations.set(keyId, generation);
}

/** Returns the activation instant in a label: -Infinity for a plain label, undefined if the label has none. */
export function activationOf(label: string, objectName: string): number | undefined {
  return label === objectName ? -Infinity : parseInstant(label.slice(objectName.length + 1));
}

function forbidden(record: KekRecord, policy: SchedulePolicy): string | undefined {
  if (record.unprotected.length === 0 || policy.allowUnprotected.includes(record.label)) return undefined;
  return `${record.unprotected.join(", ")}; make a protected key, or list its label in keys.allowUnprotected`;
}

/** Orders the latest activation first; keys with the same activation by key_id, so that all nodes agree. */
function byActivation(a: Generation, b: Generation): number {
  if (a.activation !== b.activation) return b.activation > a.activation ? 1 : -1;
  return a.record.keyId < b.record.keyId ? 1 : -1;
}

/**
 * Returns the generation with the latest activation that is not in the future. Throws KEY_MISSING if there is none,
 * KEY_AMBIGUOUS if several keys have a plain label. @param now ms since the epoch
 */
export function activeAt(schedule: Schedule, policy: SchedulePolicy, now: number): Generation {
  const due = schedule.generations.filter((generation) => generation.activation <= now);
  const [active] = due;
  if (active === undefined) throw missing(schedule, policy);
  if (active.activation !== -Infinity) return active;
  return choosePlain(due, policy);
}

function choosePlain(plain: readonly Generation[], { objectName, pinned }: SchedulePolicy): Generation {
  const [only, another] = plain;
  if (pinned !== undefined) {
    const chosen = plain.filter(({ record }) => isCalled(record, pinned));
    const [one] = chosen;
    if (one !== undefined && chosen.length === 1) return one;
    throw new KmsError(
      "KEY_AMBIGUOUS",
      `keys.active names ${pinned}, which ${chosen.length} keys labelled "${objectName}" match`,
    );
  }
  if (only !== undefined && another === undefined) return only;
  const names = plain.map(({ record }) => record.keyId).join(" and ");
  throw new KmsError(
    "KEY_AMBIGUOUS",
    `several keys are labelled "${objectName}" (key_id ${names}); set keys.active to the one to encrypt with`,
  );
}

function isCalled(record: KekRecord, name: string): boolean {
  return record.keyId === name || record.ckaId === name.toLowerCase() || record.aliases.includes(name);
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
      `the only KEK "${standby.record.label}" becomes active at ${at}; check this node's clock`,
    );
  }
  return new KmsError(
    "KEY_MISSING",
    `the token holds no KEK "${objectName}"; make one with 'kms-pkcs11 keys create'`,
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
  return schedule.generations.find(({ record }) => record.keyId === keyId || record.aliases.includes(keyId));
}

/** Returns the generations of one schedule that a later one no longer contains. */
export function goneFrom(before: Schedule, after: Schedule): Generation[] {
  return before.generations.filter(({ record }) => findByKeyId(after, record.keyId) === undefined);
}
