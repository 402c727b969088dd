// Installs the plugin by the steps of a page: runs its commands on a machine, one after the other, and compares what they print
// with what the page shows.

import { isAsShown, readRunbook } from "../../e2e/harness/runbook.js";
import type { Machine } from "./machine.js";

export interface StepOptions {
  /** The folder in which the commands run. */
  readonly folder: string;
  /** What the operator types if a command reads from the terminal. */
  readonly typed: string;
  /** Returns the command to run instead, if the machine is not as the page assumes. */
  readonly instead?: (command: string) => string;
}

/** Runs the commands of a page. Returns their number, or throws at the first that fails or prints something else. */
export async function followSteps(machine: Machine, page: URL, options: StepOptions): Promise<number> {
  const steps = await readRunbook(page);
  // Each command has a shell of its own; what an operator's shell would remember precedes it.
  const remembered = [`cd ${options.folder}`, "exec 2>&1"];
  for (const { command, output } of steps) {
    if (/^(export|cd) /.test(command)) {
      remembered.push(command);
      continue;
    }
    const script = [...remembered, options.instead?.(command) ?? command].join("\n");
    const { code, stdout } = await machine.try(script, { input: options.typed, timeoutMs: 300_000 });
    if (code !== 0) throw new Error(`${command}: exit code ${code}\n${stdout}`);
    if (!isAsShown(stdout, output)) throw new Error(`${command}: not as the page shows\n${stdout}`);
  }
  return steps.length;
}
