// Progress of long work: a bar with an estimate on standard error when that is a terminal, nothing otherwise. It
// never touches standard output, so that tables and JSON stay whole.
import { Presets, SingleBar } from "cli-progress";
import type { Progress } from "../admin/operator.js";
import type { Terminal } from "./output.js";

const NO_PROGRESS: Progress = { update: () => undefined, end: () => undefined };

/** @param unit what is counted, in the plural: "objects" */
export function startProgress(terminal: Terminal, unit: string, total: number): Progress {
  if (!terminal.isInteractive) return NO_PROGRESS;
  const bar = new SingleBar(
    {
      stream: process.stderr,
      format: `{bar} {percentage} % | {value} of {total} ${unit} | {eta_formatted} left`,
      clearOnComplete: true,
      // To show a hidden cursor again cli-progress 3.12 catches the first Ctrl-C, and the command goes on.
      hideCursor: false,
      gracefulExit: false,
    },
    Presets.shades_classic,
  );
  bar.start(total, 0);
  return {
    update: (done, known) => {
      if (known !== undefined) bar.setTotal(known);
      bar.update(done);
    },
    end: () => {
      bar.stop();
    },
  };
}
