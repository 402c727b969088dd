// What keeps a due generation from becoming active, such as a missing approval. It never affects the KEK in use, so that
// no gate stops a control plane.
import { KmsError } from "../errors.js";
import { activeAt, isLater, type Generation, type Schedule } from "./generations.js";
import type { Keyring } from "./keyring.js";

/** Decides whether a generation may become active. It answers from memory and changes nothing. */
export interface ActivationGate {
  /** Returns why a generation must not become active; undefined if it may. */
  refusalOf(generation: Generation): string | undefined;
  /** Why the gate cannot decide as configured; undefined if it can. */
  readonly problem: string | undefined;
}

/**
 * Returns the schedule without the generations that must not become active.
 * @param inUse key_id of the KEK in use, which always may
 */
export function permittedBy(gate: ActivationGate, schedule: Schedule, inUse: string | undefined): Schedule {
  const isPermitted = (generation: Generation): boolean =>
    generation.record.keyId === inUse || gate.refusalOf(generation) === undefined;
  return { ...schedule, generations: schedule.generations.filter(isPermitted) };
}

/**
 * Returns why the gate refuses the generation that the schedule names; undefined if the gate permits that generation,
 * or if `chosen` is as late.
 * @param asOf ms since the epoch
 */
export function refusedAfter(
  gate: ActivationGate,
  chosen: Generation | undefined,
  { schedule, policy }: Pick<Keyring, "schedule" | "policy">,
  asOf: number,
): KmsError | undefined {
  let due: Generation;
  try {
    due = activeAt(schedule, policy, asOf);
  } catch {
    // The schedule names none.
    return undefined;
  }
  const { keyId } = due.record;
  if (chosen !== undefined && (keyId === chosen.record.keyId || !isLater(due, chosen))) return undefined;
  const reason = gate.refusalOf(due);
  if (reason === undefined) return undefined;
  return new KmsError("NOT_APPROVED", `KEK ${keyId} is due but not activated: ${reason}`);
}
