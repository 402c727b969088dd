// Says what an interrupt leaves unchanged, while a command only reads and asks. Without this, the signal ends the process without
// a word, as it does to most commands.
import { holdInterrupts } from "../admin/interrupts.js";
import { KmsError } from "../errors.js";
import { EXIT_INTERRUPTED } from "./exit-code.js";
import { reportFailure } from "./failure.js";
import type { OutputFormat, Terminal } from "./output.js";

/**
 * From now on, an interrupt ends the process with a message.
 * @returns a function that ends this; may be called again
 */
export function exitOnInterrupt(message: string, output: OutputFormat, terminal: Terminal): () => void {
  return holdInterrupts(undefined, () => {
    reportFailure(new KmsError("CANCELLED", message), output, terminal);
    process.exit(EXIT_INTERRUPTED);
  });
}
