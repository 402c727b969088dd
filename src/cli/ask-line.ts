// Asks the operator for one line on the terminal. The prompt may wait forever, so every check made before it has to be
// repeated after it.
import { createInterface } from "node:readline/promises";
import { liveLine } from "./live-line.js";

/** Returns the line that is typed; undefined for Ctrl-C, Ctrl-D and the end of the input. */
export function askLine(question: string): Promise<string | undefined> {
  return liveLine.during(() => ask(question));
}

async function ask(question: string): Promise<string | undefined> {
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  // Ctrl-C and Ctrl-D fail the question; the end of the input only closes the terminal.
  const ended = new Promise<undefined>((resolve) => {
    terminal.once("close", () => {
      resolve(undefined);
    });
  });
  const answer = terminal.question(question).catch(() => undefined);
  const typed = await Promise.race([answer, ended]);
  terminal.close();
  // An error gets a line of its own, after what was typed.
  if (typed === undefined) process.stderr.write("\n");
  return typed;
}
