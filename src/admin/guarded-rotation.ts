// Watching over a new KEK until its instant: whether every token and node has it, and if it is to be so, taking it
// back in time where one does not.
import type { Settings } from "../config/settings.js";
import { KmsError } from "../errors.js";
import type { DestroyWindow } from "../hsm/token-hsm.js";
import type { KekRecord } from "../hsm/port.js";
import type { RotationPlan } from "../provider/rotation.js";
import { cloneAdvice, repeatedLook } from "./clone-advice.js";
import { waitForConvergence } from "./convergence.js";
import { destroyOn } from "./destroy-on-tokens.js";
import { CANCEL_MARGIN_MS } from "./never-used.js";
import { recordIntent, recordOperatorEvent } from "./operator-audit.js";
import type { Operator } from "./operator.js";
import { isReady, LOOK_MS, type Place } from "./places.js";
import { windowBefore } from "./require-unneeded.js";
import type { Token } from "./command-tokens.js";
import { changeEvent, type Changes } from "./token-changes.js";

/** Last moment to cancel a rotation, including the last check before it, in ms before the instant. */
const DECIDED_MS = CANCEL_MARGIN_MS + LOOK_MS;

/** Below this, in ms, no poll of a node would come before the decision. */
export const LEAST_GUARDED_MS = DECIDED_MS + 5_000;

/** Making a key and reading it back takes this many times as long as opening its token. */
const MAKING = 3;

/**
 * Requires that a KEK which is made now could still be destroyed in time.
 * @throws KmsError INPUT_INVALID when the tokens are too slow for it
 */
export function requireTimeToAbort(tokens: readonly Token[], activation: number): void {
  const [preferred] = tokens;
  const neededMs = DECIDED_MS + abortMs(tokens) + MAKING * (preferred?.openMs ?? 0);
  if (activation - Date.now() >= neededMs) return;
  const seconds = String(Math.ceil((neededMs + LEAST_GUARDED_MS) / 1000));
  throw new KmsError(
    "INPUT_INVALID",
    "the token is too slow to cancel the key before its instant; nothing was made (--abort-unless-converged): " +
      `choose an instant at least ${seconds} s ahead`,
  );
}

/** Returns how long it may take until the last token has received the call that destroys the key. */
function abortMs(tokens: readonly Token[]): number {
  return tokens.reduce((sum, { openMs }) => sum + openMs, 0);
}

export interface Rotation {
  readonly plan: RotationPlan;
  /** Undefined after a dry run. */
  readonly made: KekRecord | undefined;
  /** The other tokens and the nodes, as the last look found them. */
  readonly places: readonly Place[];
  /** Whether all had the key in time; undefined where nobody waited for it. */
  readonly converged?: boolean;
  readonly interrupted?: boolean;
  /** Why the key was not destroyed again, although not all had it. */
  readonly kept?: string;
  /** The key was destroyed again, or should have been. */
  readonly abort?: Changes & { readonly reason: string };
}

export interface RotationWatch {
  readonly settings: Settings;
  readonly plan: RotationPlan;
  readonly made: KekRecord;
  /** The first one made the key. */
  readonly tokens: readonly Token[];
  readonly nodes: readonly URL[];
  /** Whether the key is destroyed again where not all have it. */
  readonly guarded: boolean;
  /** Ends the wait. */
  readonly signal: AbortSignal;
  readonly operator: Operator;
}

export async function watchRotation(watch: RotationWatch): Promise<Rotation> {
  const { plan, made, tokens, nodes, guarded, signal, operator } = watch;
  const others = tokens.slice(1);
  operator.notify(
    `made "${made.label}" (key_id ${made.keyId}), active from ${new Date(plan.activation).toISOString()}`,
  );
  if (others.length > 0) operator.notify(cloneAdvice(made, tokens));
  const { aheadMs, ...outcome } = await waitForConvergence({
    look: repeatedLook(made, others, nodes),
    until: plan.activation - (guarded ? DECIDED_MS + abortMs(tokens) : 0),
    toTheEnd: guarded,
    signal,
    operator,
  });
  const ended = { plan, made, ...outcome };
  if (outcome.converged || !guarded) return ended;
  const { places, interrupted } = outcome;
  const inUse = places.filter(({ state }) => state === "active");
  if (inUse.length > 0) return { ...ended, kept: `it is in use already: ${namesOf(inUse)}` };
  const window = windowBefore(plan.activation, aheadMs);
  return { ...ended, abort: await abort(watch, reasonOf(places, interrupted), window) };
}

async function abort(
  { settings, made, tokens, operator }: RotationWatch,
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

function reasonOf(places: readonly Place[], interrupted: boolean): string {
  const lacking = places.filter((place) => !isReady(place));
  const list = lacking
    .map(({ name, detail }) => (detail.startsWith(name) ? detail : `${name} ${detail}`))
    .join("; ");
  return interrupted ? `interrupted before all had it (${list})` : list;
}

function namesOf(places: readonly Place[]): string {
  return places.map(({ name }) => name).join(", ");
}
