// The operator at a terminal: lines and progress on standard error, PINs from the terminal or standard input.
import type { Operator } from "../admin/operator.js";
import { askForPin, canBeAsked, suppliedPin } from "./operator-pin.js";
import type { Terminal } from "./output.js";
import { showStatus, startProgress } from "./progress.js";

/** Returns the operator at this terminal. */
export function operatorAt(terminal: Terminal): Operator {
  return {
    pins: { supplied: suppliedPin, canPrompt: canBeAsked, prompt: askForPin },
    seesProgress: terminal.isInteractive,
    notify: (line) => {
      terminal.err(line);
    },
    startProgress: (unit, total) => startProgress(terminal, unit, total),
    showStatus: (text) => showStatus(terminal, text),
  };
}
