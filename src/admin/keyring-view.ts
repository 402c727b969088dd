// Combines the configured tokens into one keyring: the schedule as the plugin reads it, and the differences between the
// tokens. They may differ, since a KEK is made on one token and cloned to the others with the vendor's tools.
import { KmsError } from "../errors.js";
import { Clones } from "../hsm/failover/clones.js";
import { isSameKek, namesValue } from "../hsm/key-id.js";
import type { KekRecord } from "../hsm/port.js";
import {
  activeAt,
  activationOf,
  readSchedule,
  stateOf,
  type Generation,
  type GenerationState,
  type Schedule,
  type SchedulePolicy,
} from "../provider/generations.js";
import { findReferenced, type KeyReference } from "./key-reference.js";
import { requireAll, SILENT, type Token } from "./command-tokens.js";

type KeyState = GenerationState | "refused";

export interface ViewedKey {
  readonly record: KekRecord;
  readonly state: KeyState;
  /** ms since the epoch; undefined without an instant. */
  readonly activation: number | undefined;
  /** Why it is refused, and what else is wrong with it. */
  readonly findings: readonly string[];
  /** Names of the tokens that hold it. */
  readonly holders: readonly string[];
}

export interface KeyringView {
  readonly schedule: Schedule;
  readonly active: Generation | undefined;
  /** Why no key is active; undefined when one is. */
  readonly problem: KmsError | undefined;
  /** Standby, active, retired, refused. */
  readonly keys: readonly ViewedKey[];
  /** A line for each difference between the readable tokens. */
  readonly differences: readonly string[];
}

/** Returns the keyring over all readable tokens. @param now ms since the epoch */
export function viewKeyring(tokens: readonly Token[], policy: SchedulePolicy, now: number): KeyringView {
  const genuine = new Clones(
    tokens.map(({ name }) => name),
    SILENT,
  ).genuine(tokens.map(({ records }) => records));
  const all = inOrder(
    genuine.flatMap((records) => records ?? []),
    policy.objectName,
  );
  const merged = all.filter((record, at) => all.findIndex((other) => isSameKek(other, record)) === at);
  const schedule = readSchedule(merged, policy);
  const { active, problem } = findActive(schedule, policy, now);
  const keys = [
    ...schedule.generations.map((generation): ViewedKey => {
      const { record, activation } = generation;
      const holders = holdersOf(tokens, record);
      return {
        record,
        state: stateOf(generation, active, now),
        activation: Number.isFinite(activation) ? activation : undefined,
        findings: [...record.unprotected, ...record.remarks, ...unproven(record, holders)],
        holders,
      };
    }),
    ...schedule.refused.map(({ record, reason }) => refusedKey(tokens, record, reason)),
    ...falseClones(tokens, genuine),
  ];
  return { schedule, active, problem, keys, differences: differencesOf(tokens, keys) };
}

/** Sorts records so that of several copies of one KEK the first counts, as in `readSchedule`: protected, earliest. */
function inOrder(records: readonly KekRecord[], objectName: string): KekRecord[] {
  const instant = ({ label }: KekRecord): number => activationOf(label, objectName) ?? Infinity;
  return [...records].sort((a, b) => {
    const byProtection = Number(a.unprotected.length > 0) - Number(b.unprotected.length > 0);
    if (byProtection !== 0 || instant(a) === instant(b)) return byProtection;
    return instant(a) < instant(b) ? -1 : 1;
  });
}

/**
 * Finds the key that an operator names; undefined for a whole key_id that no token shows.
 * @param what names the option or argument in messages
 * @throws KmsError CONFIG_INVALID when a reference other than a whole key_id matches no KEK, or several; why a token
 *   cannot be read, since the reference may match a KEK there, too
 */
export function findNamedKey(
  what: string,
  reference: KeyReference,
  view: KeyringView,
  tokens: readonly Token[],
): ViewedKey | undefined {
  if (reference.kind !== "key_id") {
    requireAll(tokens, `to continue without it, give the whole key_id as ${what}`);
  }
  if (reference.kind === "state" && view.problem !== undefined) throw view.problem;
  const named = view.keys.map((key) => ({
    key,
    keyIds: [key.record.keyId, ...key.record.aliases],
    state: key.state,
  }));
  return findReferenced(what, reference, named)?.key;
}

/** Returns the token's own record of a KEK: its label may differ from another token's. */
export function recordOn(token: Token, kek: KekRecord): KekRecord | undefined {
  return token.records?.find((record) => isSameKek(record, kek));
}

function findActive(
  schedule: Schedule,
  policy: SchedulePolicy,
  now: number,
): Pick<KeyringView, "active" | "problem"> {
  try {
    return { active: activeAt(schedule, policy, now), problem: undefined };
  } catch (error) {
    return { active: undefined, problem: KmsError.from(error) };
  }
}

function unproven({ keyId }: KekRecord, holders: readonly string[]): string[] {
  return holders.length > 1 && !namesValue(keyId)
    ? ["the HSM computes no fingerprint, so nothing shows that the tokens hold the same value"]
    : [];
}

function holdersOf(tokens: readonly Token[], kek: KekRecord): string[] {
  return tokens.filter((token) => recordOn(token, kek) !== undefined).map(({ name }) => name);
}

function refusedKey(tokens: readonly Token[], record: KekRecord, reason: string): ViewedKey {
  const others = [...record.unprotected, ...record.remarks].filter((finding) => !reason.includes(finding));
  const findings = [reason, ...others];
  return { record, state: "refused", activation: undefined, findings, holders: holdersOf(tokens, record) };
}

/** Returns keys that carry the label and CKA_ID of another token's KEK but have another value. */
function falseClones(
  tokens: readonly Token[],
  genuine: readonly (readonly KekRecord[] | undefined)[],
): ViewedKey[] {
  return tokens.flatMap(({ name, records }, rank) =>
    (records ?? [])
      .filter((record) => genuine[rank]?.every(({ keyId }) => keyId !== record.keyId) ?? false)
      .map((record) => ({
        ...refusedKey(
          tokens,
          record,
          "not a clone: another token holds another key under this label and CKA_ID",
        ),
        holders: [name],
      })),
  );
}

function differencesOf(tokens: readonly Token[], keys: readonly ViewedKey[]): string[] {
  const readable = tokens.filter(({ records }) => records !== undefined);
  return keys.flatMap(({ record, state, holders }) => {
    const lacking = readable.filter(({ name }) => !holders.includes(name)).map(({ name }) => name);
    const labels = new Set(readable.flatMap((token) => recordOn(token, record)?.label ?? []));
    const name = `${state} KEK "${record.label}" (key_id ${record.keyId})`;
    return [
      ...(state === "refused" && lacking.length > 0 ? [`${name} is on ${holders.join(", ")} only`] : []),
      ...(state !== "refused" && lacking.length > 0
        ? [`${name} is missing on ${lacking.join(", ")}; clone it there`]
        : []),
      ...(labels.size > 1 ? [`${name} has different labels on the tokens: ${[...labels].join(", ")}`] : []),
    ];
  });
}
