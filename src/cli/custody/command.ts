// `kms-pkcs11 custody`: the commands for a PIN that several custodians hold together.
import type { Command } from "commander";
import type { Terminal } from "../output.js";
import { addCommands, type AddCommand, type CommandLoaders } from "../subcommands.js";

const COMMANDS: CommandLoaders = new Map<string, () => Promise<AddCommand>>([
  ["split", async () => (await import("./split.js")).addCustodySplitCommand],
  ["test", async () => (await import("./test.js")).addCustodyTestCommand],
  ["combine", async () => (await import("./combine.js")).addCustodyCombineCommand],
]);

/** Adds the group `custody`. */
export async function addCustodyCommand(
  program: Command,
  terminal: Terminal,
  args: readonly string[],
): Promise<void> {
  const custody = program.command("custody");
  await addCommands(COMMANDS, custody, terminal, args);
}
