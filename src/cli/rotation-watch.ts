// Watching over a new KEK until its instant: whether every token and node has it, and if it is to be so, taking it
// back in time where one does not.
import type { Settings } from "../config/settings.js";
import type { KekRecord } from "../hsm/wire.js";
import type { RotationPlan } from "../provider/rotation.js";
import { cloneAdvice, repeatedLook } from "./clone-advice.js";
import { untilInterrupted, waitForConvergence } from "./convergence.js";
import { CANCEL_MARGIN_MS } from "./never-used.js";
import { recordOperatorEvent } from "./operator-audit.js";
import type { Terminal } from "./output.js";
import { isReady, type Place } from "./places.js";
import type { Rotation } from "./rotation-report.js";
import type { Token } from "./token.js";
import { changeEvent, destroyOn } from "./token-changes.js";

/** Below this, in ms, no poll of a node would come before the decision. */
export const LEAST_GUARDED_MS = 2 * CANCEL_MARGIN_MS;

export interface RotationWatch {
  readonly settings: Settings;
  readonly plan: RotationPlan;
  readonly made: KekRecord;
  /** The first one made the key. */
  readonly tokens: readonly Token[];
  readonly nodes: readonly URL[];
  /** Whether the key is destroyed again where not all have it. */
  readonly guarded: boolean;
  readonly terminal: Terminal;
}

export async function watchRotation(watch: RotationWatch): Promise<Rotation> {
  const { plan, made, tokens, nodes, guarded, terminal } = watch;
  const others = tokens.slice(1);
  terminal.err(
    `made "${made.label}" (key_id ${made.keyId}), active from ${new Date(plan.activation).toISOString()}`,
  );
  if (others.length > 0) terminal.err(cloneAdvice(made, tokens));
  return untilInterrupted(async (signal) => {
    const { places, converged, interrupted } = await waitForConvergence({
      look: repeatedLook(made, others, nodes),
      until: plan.activation - (guarded ? CANCEL_MARGIN_MS : 0),
      toTheEnd: guarded,
      signal,
      terminal,
    });
    const ended = { plan, made, places, converged, interrupted };
    if (converged || !guarded) return ended;
    const inUse = places.filter(({ state }) => state === "active");
    if (inUse.length > 0) return { ...ended, kept: `it is in use already: ${namesOf(inUse)}` };
    return { ...ended, abort: await abort(watch, reasonOf(places, interrupted)) };
  });
}

async function abort(
  { settings, made, tokens }: RotationWatch,
  reason: string,
): Promise<NonNullable<Rotation["abort"]>> {
  const changes = await destroyOn(tokens, made);
  const { outcome, details } = changeEvent(changes);
  await recordOperatorEvent(settings, {
    operation: "keys rotate --abort-unless-converged",
    keyId: made.keyId,
    outcome,
    details: { destroyed: made.label, reason: reason.slice(0, 1024), ...details },
  });
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
