// Loads the code of commands only if the command line names them: every module loaded delays `serve` and each command.
import type { Command } from "commander";
import type { Terminal } from "./output.js";

/** Adds one command to its parent; `args` are the command line's arguments after the command's name. */
export type AddCommand = (
  parent: Command,
  terminal: Terminal,
  args: readonly string[],
) => void | Promise<void>;

type Loader = () => Promise<AddCommand>;

/** Commands by name, in the order in which the help lists them. */
type CommandLoaders = ReadonlyMap<string, Loader>;

/** Returns what adds a command that has only commands of its own. */
export function commandGroup(name: string, commands: readonly (readonly [string, Loader])[]): AddCommand {
  const loaders = new Map(commands);
  return (program, terminal, args) => addCommands(loaders, program.command(name), terminal, args);
}

/** Adds the command that the first argument names, or all if it names none. */
export async function addCommands(
  loaders: CommandLoaders,
  parent: Command,
  terminal: Terminal,
  args: readonly string[],
): Promise<void> {
  const named = loaders.get(args[0] ?? "");
  for (const load of named === undefined ? loaders.values() : [named]) {
    await (
      await load()
    )(parent, terminal, args.slice(1));
  }
}
