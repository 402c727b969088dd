// Waiting until a new KEK is seen everywhere, or until there is no time left for it. The instant is each node's own:
// a clock that is ahead shortens the time.
import type { Operator } from "./operator.js";
import { isReady, type Place } from "./places.js";

export interface Wait {
  readonly look: () => Promise<Place[]>;
  /** When the last check begins, ms since the epoch by this machine's clock; earlier if a node's clock is ahead. */
  readonly until: number;
  /** Whether to go on to the end although all are ready: one may still be lost. */
  readonly toTheEnd: boolean;
  /** Ends the wait early. */
  readonly signal: AbortSignal;
  readonly operator: Operator;
}

export interface Outcome {
  /** As the last look found them. */
  readonly places: readonly Place[];
  readonly converged: boolean;
  readonly interrupted: boolean;
  /** The most that any node's clock was ahead of this machine's, in ms, including nodes that no longer answer. */
  readonly aheadMs: number;
}

const POLL_MS = 1_000;

/** Looks until all are ready, the time is over or the wait is ended. The last look is never older than its end. */
export async function waitForConvergence(wait: Wait): Promise<Outcome> {
  const { operator, signal, toTheEnd } = wait;
  let aheadMs = 0;
  const lookOnce = async (): Promise<Place[]> => {
    const found = await wait.look();
    aheadMs = Math.max(aheadMs, ...found.map((place) => place.clockAheadMs ?? 0));
    return found;
  };
  let places = await lookOnce();
  const progress = operator.startProgress("tokens and nodes ready", places.length);
  const told = new Map<string, string>();
  try {
    for (;;) {
      progress.update(places.filter(isReady).length);
      if (!operator.seesProgress) reportChanges(places, told, operator);
      const leftMs = wait.until - Date.now() - aheadMs;
      const converged = places.every(isReady);
      if (signal.aborted || leftMs <= 0 || (converged && !toTheEnd)) {
        return { places, converged, interrupted: signal.aborted, aheadMs };
      }
      await pause(Math.min(POLL_MS, leftMs), signal);
      places = await lookOnce();
    }
  } finally {
    progress.end();
  }
}

function reportChanges(places: readonly Place[], told: Map<string, string>, operator: Operator): void {
  for (const place of places) {
    const { name, state, detail } = place;
    // A node that is ready proves the key again and again: the time of the last proof is no news.
    const news = isReady(place) ? state : `${state}, ${detail}`;
    if (told.get(name) === news) continue;
    told.set(name, news);
    operator.notify(`${name}: ${state}, ${detail}`);
  }
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await new Promise<void>((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", done);
  });
}
