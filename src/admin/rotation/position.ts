// The position of a rotation: a pure function from what exists (KEKs on tokens, the nodes' answers, a census of etcd) to
// the next step. A rotation keeps no state of its own, so every run on every machine derives the same position.
import { laterInstants } from "../../provider/generations.js";

/** In the order in which they are taken. */
export const STEPS = [
  "preflight",
  "create",
  "wait",
  "activate",
  "confirm",
  "migrate",
  "verify",
  "retire",
] as const;

export type Step = (typeof STEPS)[number];

/** A KEK that may be used. */
export interface RotationKek {
  /** The key_id that new ciphertexts contain first, then its aliases. */
  readonly keyIds: readonly [string, ...string[]];
  readonly label: string;
  /** ms since the epoch; -Infinity for a plain label. */
  readonly activation: number;
  readonly state: "standby" | "active" | "retired";
}

export interface RotationNode {
  readonly name: string;
  /** The key_id that its last Status answer carried; null for none. */
  readonly publishedKeyId: string | null;
  /** What is wrong with it, or why it does not answer; empty if nothing is known to be. */
  readonly problems: readonly string[];
}

/** What exists at one moment. */
export interface Facts {
  /** ms since the epoch. */
  readonly now: number;
  /** Latest activation first. */
  readonly keks: readonly RotationKek[];
  readonly nodes: readonly RotationNode[];
  /** Tokens and nodes that a standby KEK may not be relied on, with the reason. */
  readonly lacking: readonly string[];
  /** Until when the wait for tokens and nodes goes on although all are ready, ms since the epoch; undefined: not at all. */
  readonly decideAt: number | undefined;
}

/** What a rotation is for. It is settled when a run begins, so that no run makes two KEKs. */
export interface Goal {
  /** The key_ids of the KEK that a new one is made for while it is active; undefined: no KEK is made. */
  readonly replace: readonly string[] | undefined;
  /** Which retired KEKs are destroyed; undefined for none. */
  readonly retirement: Retirement | undefined;
}

export interface Retirement {
  /** Least time since its successor's activation, in ms. */
  readonly afterMs: number;
  /** From its successor's activation until no API server encrypts under it any more, in ms. */
  readonly settledMs: number;
  /** The key_ids of the only KEK to destroy; undefined for every retired KEK. */
  readonly only: readonly string[] | undefined;
}

/** What this run has found out so far, which nothing else shows. */
export interface Findings {
  readonly preflight: boolean;
  /** Objects that are not under the active KEK; undefined until they have been counted. */
  readonly left: number | undefined;
  readonly verified: boolean;
}

export const NOTHING_FOUND: Findings = { preflight: false, left: undefined, verified: false };

export type Position =
  | { readonly step: "preflight" }
  | { readonly step: "create"; readonly from: RotationKek }
  | { readonly step: "wait" | "activate" | "confirm" | "migrate" | "verify"; readonly to: RotationKek }
  | {
      readonly step: "retire";
      readonly to: RotationKek;
      readonly kek: RotationKek;
      /** ms since the epoch. */
      readonly notBefore: number;
    }
  | { readonly step: "done"; readonly to: RotationKek }
  | { readonly step: "blocked"; readonly reason: string };

/** Returns the next step of a rotation, or why there is none. */
export function positionOf(facts: Facts, goal: Goal, findings: Findings): Position {
  if (!findings.preflight) return { step: "preflight" };
  const [standby, another] = facts.keks.filter(({ state }) => state === "standby");
  if (standby !== undefined && another !== undefined) return severalStandby(another, standby);
  if (standby !== undefined) return { step: isRolledOut(facts) ? "activate" : "wait", to: standby };
  const active = facts.keks.find(({ state }) => state === "active");
  if (active === undefined) return { step: "blocked", reason: "no KEK is active" };
  if (goal.replace !== undefined && isNamed(active, goal.replace)) return { step: "create", from: active };
  if (behind(facts, active).length > 0) return { step: "confirm", to: active };
  if (findings.left !== 0) return { step: "migrate", to: active };
  if (!findings.verified) return { step: "verify", to: active };
  const [retiring] = retirements(facts, goal);
  return retiring === undefined ? { step: "done", to: active } : { step: "retire", to: active, ...retiring };
}

/** Returns the nodes that do not publish the KEK. */
export function behind({ nodes }: Pick<Facts, "nodes">, kek: RotationKek): readonly RotationNode[] {
  return nodes.filter(({ publishedKeyId }) => publishedKeyId === null || !isNamed(kek, [publishedKeyId]));
}

/** Returns whether one of the key_ids names the KEK. */
export function isNamed({ keyIds }: RotationKek, names: readonly string[]): boolean {
  return keyIds.some((keyId) => names.includes(keyId));
}

/** Returns the step that follows; undefined after the last. */
export function stepAfter(step: Step): Step | undefined {
  return STEPS[STEPS.indexOf(step) + 1];
}

/** Returns whether a step is taken before another. */
export function isBefore(step: Step, other: Step): boolean {
  return STEPS.indexOf(step) < STEPS.indexOf(other);
}

function isRolledOut({ now, lacking, decideAt }: Facts): boolean {
  return lacking.length === 0 && (decideAt === undefined || now >= decideAt);
}

interface Retiring {
  readonly kek: RotationKek;
  readonly notBefore: number;
}

/** Returns the KEKs to destroy, the first due first. One whose successor has no instant is not among them. */
function retirements({ keks, now }: Facts, { retirement }: Goal): Retiring[] {
  if (retirement === undefined) return [];
  const { afterMs, settledMs, only } = retirement;
  return keks
    .filter((kek) => kek.state === "retired" && (only === undefined || isNamed(kek, only)))
    .flatMap((kek) => {
      const later = laterInstants(kek.activation, keks, now);
      if (later.length === 0) return [];
      return [{ kek, notBefore: Math.min(...later) + Math.max(afterMs, settledMs) }];
    })
    .sort((one, other) => one.notBefore - other.notBefore);
}

function severalStandby(first: RotationKek, second: RotationKek): Position {
  const names = [first, second].map(({ label, keyIds: [keyId] }) => `"${label}" (key_id ${keyId})`);
  return {
    step: "blocked",
    reason: `${names.join(" and ")} are both standby; cancel one with 'kms-pkcs11 rotation abort KEY_ID'`,
  };
}
