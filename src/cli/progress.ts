// Progress of long work: how much is done, the rate and the remaining time on standard error if that is a terminal,
// otherwise nothing. It never writes to standard output, which is for tables and JSON.
import type { Progress } from "../admin/operator.js";
import { liveLine } from "./live-line.js";
import type { Terminal } from "./output.js";
import { Pace, progressLine, waitingLine } from "./progress-line.js";

const NO_PROGRESS: Progress = { update: () => undefined, end: () => undefined };
/** A command that ends earlier shows no sign of waiting. */
const WAITING_AFTER_MS = 1_000;

/**
 * Draws progress if standard error is a terminal.
 * @param unit what is counted, in the plural: "objects"
 * @param total 0 if not known yet
 */
export function startProgress(terminal: Terminal, unit: string, total: number): Progress {
  if (!terminal.isInteractive) return NO_PROGRESS;
  const pace = new Pace(performance.now());
  let step = { unit, done: 0, total, isEstimate: false };
  // Computed for each drawing, so that it is true while nothing happens.
  const end = liveLine.show((columns) =>
    progressLine(step, pace.rate(step.done, performance.now()), columns),
  );
  return {
    update: (done, known = step.total, isEstimate = step.isEstimate) => {
      step = { unit, done, total: known, isEstimate };
    },
    end,
  };
}

/** Draws what `text` returns, if standard error is a terminal. Returns a function that ends it. */
export function showStatus(terminal: Terminal, text: () => string): () => void {
  return terminal.isInteractive ? liveLine.show(text) : () => undefined;
}

/** Shows after a second that a command is waiting, unless it shows progress. Returns a function that ends it. */
export function startWaiting(terminal: Terminal, command: string): () => void {
  if (!terminal.isInteractive) return () => undefined;
  const startedAt = performance.now();
  let end: (() => void) | undefined;
  const timer = setTimeout(() => {
    end = liveLine.showBelow(() => waitingLine(command, performance.now() - startedAt));
  }, WAITING_AFTER_MS).unref();
  return () => {
    clearTimeout(timer);
    end?.();
  };
}
