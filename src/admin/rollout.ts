// The rollout of a new KEK to the other tokens and the nodes. The key never leaves the HSM that made it, so the
// operator clones it with the vendor's tools; this file prints the instructions and waits until they have been carried
// out.
import { setTimeout } from "node:timers/promises";
import type { KekRecord } from "../hsm/port.js";
import type { Token } from "./command-tokens.js";
import { keyNotices, untilInterrupted } from "./interrupts.js";
import type { Operator } from "./operator.js";
import { checkReadiness, isReady, type Readiness } from "./readiness.js";

/** Number of checks between reloads of a library that caches objects. */
const CHECKS_BETWEEN_RELOADS = 10;
const POLL_MS = 1_000;

export interface Wait {
  readonly check: () => Promise<Readiness[]>;
  /** Latest start of the last check, ms since the epoch by this machine's clock; earlier if a node's clock is ahead. */
  readonly until: number;
  /** When the KEK becomes active, ms since the epoch; undefined if it is active already. */
  readonly activation: number | undefined;
  /** Whether to continue to the end although all are ready, since one may still lose the KEK. */
  readonly untilDeadline: boolean;
  /** Ends the wait early. */
  readonly signal: AbortSignal;
  readonly operator: Operator;
}

export interface Outcome {
  /** State at the last check. */
  readonly readiness: readonly Readiness[];
  readonly converged: boolean;
  readonly interrupted: boolean;
  /** The most that any node's clock was ahead of this machine's, in ms, including nodes that no longer answer. */
  readonly aheadMs: number;
}

/**
 * Polls until every token and node is ready, the deadline passes, or the signal aborts. The result comes from a check
 * that began no earlier than that moment.
 */
export async function waitForConvergence(wait: Wait): Promise<Outcome> {
  const { operator, signal, until, activation, untilDeadline } = wait;
  let aheadMs = 0;
  const checkOnce = async (): Promise<Readiness[]> => {
    const found = await wait.check();
    aheadMs = Math.max(aheadMs, ...found.map(({ clockAheadMs }) => clockAheadMs ?? 0));
    return found;
  };
  let readiness = await checkOnce();
  const endStatus = operator.showStatus(() => rolloutStatus(readiness, timeLeft(activation, until)));
  const reported = new Map<string, string>();
  try {
    for (;;) {
      if (!operator.seesProgress) reportChanges(readiness, reported, operator);
      const leftMs = until - Date.now() - aheadMs;
      const converged = readiness.every(isReady);
      if (signal.aborted || leftMs <= 0 || (converged && !untilDeadline)) {
        return { readiness, converged, interrupted: signal.aborted, aheadMs };
      }
      // An abort only shortens the pause: one more check follows.
      await setTimeout(Math.min(POLL_MS, leftMs), undefined, { signal }).catch(() => undefined);
      readiness = await checkOnce();
    }
  } finally {
    endStatus();
  }
}

function rolloutStatus(readiness: readonly Readiness[], time: string): string {
  const lacking = readiness.filter((one) => !isReady(one));
  return [
    time,
    `${readiness.length - lacking.length} of ${readiness.length} ready`,
    ...(lacking.length === 0 ? [] : [lacking.map(({ name, detail }) => `${name} ${detail}`).join(", ")]),
  ].join(" | ");
}

/** Returns the time to the activation, or, for an active KEK, to the end of the wait. */
function timeLeft(activation: number | undefined, until: number): string {
  const seconds = Math.max(0, Math.ceil(((activation ?? until) - Date.now()) / 1000));
  const text = seconds < 120 ? `${seconds} s` : `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  return activation === undefined ? `${text} left` : `active in ${text}`;
}

/** Returns a function that checks tokens and nodes, and reloads the tokens' libraries now and then. */
export function repeatedCheck(
  kek: KekRecord,
  tokens: readonly Token[],
  nodes: readonly URL[],
): () => Promise<Readiness[]> {
  let checks = 0;
  return () => checkReadiness(kek, tokens, nodes, ++checks % CHECKS_BETWEEN_RELOADS === 0);
}

/** Waits until the tokens hold an active KEK, and returns their state at the last check. @param until ms since the epoch */
export async function waitForClones(
  kek: KekRecord,
  tokens: readonly Token[],
  until: number,
  operator: Operator,
): Promise<readonly Readiness[]> {
  return untilInterrupted(keyNotices(operator), async (signal) => {
    const wait = {
      check: repeatedCheck(kek, tokens, []),
      until,
      activation: undefined,
      untilDeadline: false,
      signal,
      operator,
    };
    return (await waitForConvergence(wait)).readiness;
  });
}

/** Returns the instruction to clone a KEK from the first token to the others. */
export function cloneAdvice({ label, ckaId, keyId }: KekRecord, tokens: readonly Token[]): string {
  const [preferred, ...others] = tokens.map(({ name }) => name);
  return (
    `clone "${label}" (CKA_ID ${ckaId === "" ? "none" : ckaId}, key_id ${keyId}) from ${preferred ?? ""} to ` +
    `${others.join(", ")} with the vendor's tool; waiting for it there`
  );
}

function reportChanges(
  readiness: readonly Readiness[],
  reported: Map<string, string>,
  operator: Operator,
): void {
  for (const one of readiness) {
    const { name, state, detail } = one;
    // A node that is ready proves the KEK again and again: the time of the last proof is not a change.
    const news = isReady(one) ? state : `${state}, ${detail}`;
    if (reported.get(name) === news) continue;
    reported.set(name, news);
    operator.notify(`${name}: ${state}, ${detail}`);
  }
}
