// Progress of long work: a bar with the rate and an estimate on standard error if that is a terminal, otherwise nothing. It never
// writes to standard output, which is for tables and JSON.
import { Presets, SingleBar } from "cli-progress";
import type { Progress } from "../admin/operator.js";
import type { Terminal } from "./output.js";

const NO_PROGRESS: Progress = { update: () => undefined, end: () => undefined };

/** Draws a bar if standard error is a terminal. @param unit what is counted, in the plural: "objects" */
export function startProgress(terminal: Terminal, unit: string, total: number): Progress {
  if (!terminal.isInteractive) return NO_PROGRESS;
  const bar = new SingleBar(
    {
      stream: process.stderr,
      format: `{bar} {percentage} % | {value} of {total} ${unit} | {rate} a second | {eta_formatted} left`,
      clearOnComplete: true,
      // To restore a hidden cursor, cli-progress 3.12 catches the first Ctrl-C and the command continues.
      hideCursor: false,
      gracefulExit: false,
    },
    Presets.shades_classic,
  );
  const startedAt = performance.now();
  bar.start(total, 0, { rate: 0 });
  return {
    update: (done, known) => {
      if (known !== undefined) bar.setTotal(known);
      bar.update(done, { rate: Math.round(done / ((performance.now() - startedAt) / 1000)) });
    },
    end: () => {
      bar.stop();
    },
  };
}
