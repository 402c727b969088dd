// Takes the steps of a rotation one after the other. Before each step the position is derived again from what exists, so
// a run that was killed, or that runs beside another, continues where the rotation is. Knows steps only by their effect.
import { KmsError } from "../../errors.js";
import type { RotationEvent, Report } from "./events.js";
import {
  isBefore,
  NOTHING_FOUND,
  positionOf,
  stepAfter,
  type Facts,
  type Findings,
  type Goal,
  type Position,
  type RotationKek,
  type Step,
} from "./position.js";

export type Open = Extract<Position, { readonly step: Step }>;

/** The result of a step in one line, and what else shows of it. */
export interface StepResult {
  readonly detail: string;
  readonly found?: Partial<Findings>;
}

export interface RotationSteps {
  /** Reads tokens and nodes. @throws KmsError */
  facts(): Promise<Facts>;
  /** Takes the step. @throws KmsError if it cannot be completed; run again to continue */
  take(position: Open, facts: Facts): Promise<StepResult>;
  /** Returns what the step does or waits for, and until when. */
  plan(position: Open): { readonly detail: string; readonly until: number | undefined };
}

export interface RunOptions {
  /** Settles the goal with the first facts. @throws KmsError CONFIG_INVALID */
  readonly goal: (facts: Facts) => Goal;
  /** The last step to take. */
  readonly last: Step;
  readonly report: Report;
  /** Ends the run before the next step. */
  readonly signal: AbortSignal;
}

export interface RunResult {
  /** The KEK that is active, or becomes so; undefined if the run ended before it was made. */
  readonly to: RotationKek | undefined;
  readonly destroyed: readonly RotationKek[];
  /** A KEK that is not destroyed yet, and when it may be, in ms since the epoch. */
  readonly postponed: { readonly kek: RotationKek; readonly notBefore: number } | undefined;
}

/** How long a run waits until a retired KEK may be destroyed, in ms. If it takes longer, a later run destroys it. */
const LONGEST_WAIT_MS = 60 * 60_000;

/**
 * Takes the remaining steps up to the last one.
 * @throws KmsError of the step that failed; TOKEN_REFUSED if the position is ambiguous; CANCELLED after an interrupt
 */
export async function runSteps(steps: RotationSteps, options: RunOptions): Promise<RunResult> {
  const { last, report, signal } = options;
  let goal: Goal | undefined;
  let findings = NOTHING_FOUND;
  const destroyed: RotationKek[] = [];
  for (;;) {
    if (signal.aborted) throw interrupted();
    const facts = await steps.facts();
    goal ??= options.goal(facts);
    const position = positionOf(facts, goal, findings);
    if (position.step === "blocked") throw new KmsError("TOKEN_REFUSED", position.reason);
    if (position.step === "done" || isBefore(last, position.step)) {
      return { to: targetOf(position), destroyed, postponed: undefined };
    }
    if (position.step === "retire" && position.notBefore - facts.now > LONGEST_WAIT_MS) {
      report(postponement(position));
      return { to: position.to, destroyed, postponed: position };
    }
    const { detail, until } = steps.plan(position);
    report(eventOf(position, "begun", detail, until));
    const result = await steps.take(position, facts);
    report(eventOf(position, "done", result.detail, undefined));
    findings = { ...findings, ...result.found };
    if (position.step === "retire") destroyed.push(position.kek);
  }
}

function targetOf(position: Position): RotationKek | undefined {
  return "to" in position ? position.to : undefined;
}

/** Returns the key_id of the KEK that a step is about. */
function subjectOf(position: Open): string | null {
  if ("kek" in position) return position.kek.keyIds[0];
  return targetOf(position)?.keyIds[0] ?? null;
}

function eventOf(
  position: Open,
  event: RotationEvent["event"],
  detail: string,
  until: number | undefined,
): RotationEvent {
  return {
    time: new Date().toISOString(),
    step: position.step,
    event,
    keyId: subjectOf(position),
    detail,
    until: until === undefined ? null : new Date(until).toISOString(),
    next: stepAfter(position.step) ?? null,
  };
}

function postponement(position: Extract<Position, { readonly step: "retire" }>): RotationEvent {
  const { kek, notBefore } = position;
  const at = new Date(notBefore).toISOString();
  return eventOf(
    position,
    "postponed",
    `"${kek.label}" may be destroyed from ${at} on; run the command again then`,
    notBefore,
  );
}

function interrupted(): KmsError {
  return new KmsError("CANCELLED", "interrupted; run the command again to continue");
}
