// Waiting until a new KEK is seen everywhere, or until there is no time left for it. The instant is each node's own:
// a clock that is ahead shortens the time.
import type { Terminal } from "../cli/output.js";
import { isReady, type Place } from "./places.js";
import { startProgress } from "../cli/progress.js";

export interface Wait {
  readonly look: () => Promise<Place[]>;
  /** When the last check begins, ms since the epoch by this machine's clock; earlier if a node's clock is ahead. */
  readonly until: number;
  /** Whether to go on to the end although all are ready: one may still be lost. */
  readonly toTheEnd: boolean;
  /** Ends the wait early. */
  readonly signal: AbortSignal;
  readonly terminal: Terminal;
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
  const { terminal, signal, toTheEnd } = wait;
  let aheadMs = 0;
  const lookOnce = async (): Promise<Place[]> => {
    const found = await wait.look();
    aheadMs = Math.max(aheadMs, ...found.map((place) => place.clockAheadMs ?? 0));
    return found;
  };
  let places = await lookOnce();
  const progress = startProgress(terminal, "tokens and nodes ready", places.length);
  const told = new Map<string, string>();
  try {
    for (;;) {
      progress.update(places.filter(isReady).length);
      if (!terminal.isInteractive) tellChanges(places, told, terminal);
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

function tellChanges(places: readonly Place[], told: Map<string, string>, terminal: Terminal): void {
  for (const place of places) {
    const { name, state, detail } = place;
    // A node that is ready proves the key again and again: the time of the last proof is no news.
    const news = isReady(place) ? state : `${state}, ${detail}`;
    if (told.get(name) === news) continue;
    told.set(name, news);
    terminal.err(`${name}: ${state}, ${detail}`);
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
