// The command line as its own help describes it, read in this process.

import type { Command } from "commander";

import type { Terminal } from "../../src/cli/output.js";
import { createProgram } from "../../src/cli/program.js";

export interface CommandHelp {
  /** As it is typed, without the program's name: "keys create". */
  readonly name: string;
  readonly help: string;
}

const COLUMNS = 100;

function helpOf(command: Command): string {
  const said: string[] = [];
  command.configureOutput({
    writeOut: (text) => said.push(text),
    getOutHelpWidth: () => COLUMNS,
    getOutHasColors: () => false,
  });
  command.outputHelp();
  return said.join("").trimEnd();
}

function leaves(command: Command, above: readonly string[]): CommandHelp[] {
  const words = [...above, command.name()];
  return command.commands.length === 0
    ? [{ name: words.join(" "), help: helpOf(command) }]
    : command.commands.flatMap((below) => leaves(below, words));
}

/** Returns every command that is not a group, in the order of the program's help. */
export async function commandLine(): Promise<CommandHelp[]> {
  const silent: Terminal = { out: () => undefined, err: () => undefined, isInteractive: false };
  const program = await createProgram(silent, []);
  return [{ name: "", help: helpOf(program) }, ...program.commands.flatMap((command) => leaves(command, []))];
}
