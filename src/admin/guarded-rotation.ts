// Follows a new KEK until its activation: waits for every token and node to have it and, if requested, destroys it in
// time when one lacks it.
import type { Settings } from "../config/settings.js";
import { KmsError } from "../errors.js";
import type { DestroyWindow } from "../hsm/token-hsm.js";
import type { KekRecord } from "../hsm/port.js";
import type { RotationPlan } from "../provider/rotation.js";
import { cloneAdvice, repeatedCheck, waitForConvergence, type Outcome } from "./rollout.js";
import { destroyOn } from "./destroy-on-tokens.js";
import { CANCEL_MARGIN_MS } from "./require-of-nodes.js";
import { recordIntent, recordOperatorEvent } from "./operator-audit.js";
import type { Operator } from "./operator.js";
import { CHECK_LIMIT_MS, isReady, type Readiness } from "./readiness.js";
import { windowBefore } from "./require-unneeded.js";
import type { Token } from "./command-tokens.js";
import { changeEvent, type Changes } from "./token-changes.js";

/** Time to cancel a rotation, including the check before it, in ms before the activation. */
const DECIDED_MS = CANCEL_MARGIN_MS + CHECK_LIMIT_MS;

/** Shortest delay in ms that leaves time for a node to poll its token before the decision. */
export const LEAST_GUARDED_MS = DECIDED_MS + 5_000;

/** Generating a key and reading it back takes at most this many times as long as opening its token. */
const GENERATION_FACTOR = 3;

/**
 * Requires that a KEK which is made now can still be destroyed before its activation.
 * @throws KmsError INPUT_INVALID when the tokens cannot complete it in time
 */
export function requireTimeToAbort(tokens: readonly Token[], activation: number): void {
  const [preferred] = tokens;
  const neededMs = DECIDED_MS + abortMs(tokens) + GENERATION_FACTOR * (preferred?.openMs ?? 0);
  if (activation - Date.now() >= neededMs) return;
  const seconds = String(Math.ceil((neededMs + LEAST_GUARDED_MS) / 1000));
  throw new KmsError(
    "INPUT_INVALID",
    "the token is too slow to cancel the KEK before its activation; nothing was made (--abort-unless-converged); " +
      `choose an activation at least ${seconds} s ahead`,
  );
}

/**
 * Returns when the wait for tokens and nodes ends so that the KEK can still be destroyed before its activation.
 * @param activation ms since the epoch
 */
export function decisionTime(tokens: readonly Token[], activation: number): number {
  return activation - DECIDED_MS - abortMs(tokens);
}

/** Returns how long it may take until the last token has received the call that destroys the key. */
function abortMs(tokens: readonly Token[]): number {
  return tokens.reduce((sum, { openMs }) => sum + openMs, 0);
}

export interface Rotation {
  readonly plan: RotationPlan;
  /** Undefined after a dry run. */
  readonly made: KekRecord | undefined;
  /** The other tokens and the nodes at the last check. */
  readonly readiness: readonly Readiness[];
  /** Whether every token and node had the KEK before its activation; undefined if the command did not wait. */
  readonly converged?: boolean;
  readonly interrupted?: boolean;
  /** Why the KEK was kept although a token or node lacked it. */
  readonly kept?: string;
  /** Set if the rotation was aborted; the changes show whether the KEK was destroyed. */
  readonly abort?: Changes & { readonly reason: string };
}

export interface GuardedRotation {
  readonly settings: Settings;
  readonly plan: RotationPlan;
  readonly made: KekRecord;
  /** The first token made the key. */
  readonly tokens: readonly Token[];
  readonly nodes: readonly URL[];
  /** Whether to destroy the KEK if a token or node lacks it. */
  readonly abortUnlessConverged: boolean;
  /** Ends the wait. */
  readonly signal: AbortSignal;
  readonly operator: Operator;
}

/**
 * Waits for the rollout of a new KEK and returns the result, after destroying the KEK if that was requested and is
 * necessary. Failures of single tokens are in the result.
 */
export async function guardRotation(rotation: GuardedRotation): Promise<Rotation> {
  const { plan, made, tokens, nodes, abortUnlessConverged, signal, operator } = rotation;
  operator.notify(
    `made "${made.label}" (key_id ${made.keyId}), active from ${new Date(plan.activation).toISOString()}`,
  );
  const { aheadMs, ...outcome } = await waitForRollout({
    kek: made,
    activation: plan.activation,
    tokens,
    checked: tokens.slice(1),
    nodes,
    guarded: abortUnlessConverged,
    signal,
    operator,
  });
  const ended = { plan, made, ...outcome };
  if (outcome.converged || !abortUnlessConverged) return ended;
  const { readiness, interrupted } = outcome;
  const inUse = readiness.filter(({ state }) => state === "active");
  if (inUse.length > 0) return { ...ended, kept: `it is in use already: ${namesOf(inUse)}` };
  const window = windowBefore(plan.activation, aheadMs);
  return { ...ended, abort: await abortRotation(rotation, reasonOf(readiness, interrupted), window) };
}

/** The wait for tokens and nodes to have a standby KEK. */
interface Rollout {
  readonly kek: KekRecord;
  /** ms since the epoch. */
  readonly activation: number;
  /** All tokens; the first made the KEK. */
  readonly tokens: readonly Token[];
  /** The tokens to check. */
  readonly checked: readonly Token[];
  readonly nodes: readonly URL[];
  /** Whether the KEK is destroyed if one lacks it; the wait then lasts until that has to be decided. */
  readonly guarded: boolean;
  readonly signal: AbortSignal;
  readonly operator: Operator;
}

/** Waits until all have the KEK, or until the decision or the activation, and returns the state at the last check. */
export function waitForRollout(rollout: Rollout): Promise<Outcome> {
  const { kek, activation, tokens, checked, nodes, guarded, signal, operator } = rollout;
  if (tokens.length > 1) operator.notify(cloneAdvice(kek, tokens));
  return waitForConvergence({
    check: repeatedCheck(kek, checked, nodes),
    until: guarded ? decisionTime(tokens, activation) : activation,
    activation,
    untilDeadline: guarded,
    signal,
    operator,
  });
}

/** Destroys a KEK that this command has just made, within the time in which it is certainly unused. Never throws. */
export async function abortRotation(
  { settings, made, tokens, operator }: Pick<GuardedRotation, "settings" | "made" | "tokens" | "operator">,
  reason: string,
  window: DestroyWindow,
): Promise<NonNullable<Rotation["abort"]>> {
  const operation = { operation: "keys rotate --abort-unless-converged", keyId: made.keyId };
  const known = { destroyed: made.label, reason: reason.slice(0, 1024) };
  try {
    await recordIntent(settings, operator, { ...operation, details: known });
  } catch (error) {
    return { reason, tokens: [], failure: KmsError.from(error) };
  }
  const changes = await destroyOn(tokens, made, window);
  const { outcome, details } = changeEvent(changes);
  await recordOperatorEvent(settings, operator, { ...operation, outcome, details: { ...known, ...details } });
  return { reason, ...changes };
}

function reasonOf(readiness: readonly Readiness[], interrupted: boolean): string {
  const list = lackingText(readiness);
  return interrupted ? `interrupted before every token and node had it (${list})` : list;
}

/** Returns the tokens and nodes that lack the KEK, with what each of them lacks. */
export function lackingText(readiness: readonly Readiness[]): string {
  return readiness
    .filter((one) => !isReady(one))
    .map(({ name, detail }) => (detail.startsWith(name) ? detail : `${name} ${detail}`))
    .join("; ");
}

function namesOf(readiness: readonly Readiness[]): string {
  return readiness.map(({ name }) => name).join(", ");
}
