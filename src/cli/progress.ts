// Progress of long work: how much is done, the rate and the remaining time on standard error if that is a terminal,
// otherwise nothing. It never writes to standard output, which is for tables and JSON.
import { SingleBar } from "cli-progress";
import type { Progress } from "../admin/operator.js";
import type { Terminal } from "./output.js";
import { Pace, progressLine } from "./progress-line.js";

const NO_PROGRESS: Progress = { update: () => undefined, end: () => undefined };

/**
 * Draws progress if standard error is a terminal.
 * @param unit what is counted, in the plural: "objects"
 * @param total 0 if not known yet
 */
export function startProgress(terminal: Terminal, unit: string, total: number): Progress {
  if (!terminal.isInteractive) return NO_PROGRESS;
  const pace = new Pace(performance.now());
  let step = { unit, done: 0, total, isEstimate: false };
  const bar = new SingleBar({
    stream: process.stderr,
    // Computed for each drawing, so that it is true while nothing happens.
    format: () => progressLine(step, pace.rate(step.done, performance.now())),
    clearOnComplete: true,
    // To restore a hidden cursor, cli-progress 3.12 catches the first Ctrl-C and the command continues.
    hideCursor: false,
    gracefulExit: false,
  });
  bar.start(total, 0);
  return {
    update: (done, known = step.total, isEstimate = step.isEstimate) => {
      step = { unit, done, total: known, isEstimate };
      bar.update(done);
    },
    end: () => {
      bar.stop();
    },
  };
}
