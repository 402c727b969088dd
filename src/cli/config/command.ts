// `kms-pkcs11 config`: the commands about the configuration file. None of them needs the HSM.
import type { Command } from "commander";
import type { Terminal } from "../output.js";
import { addCommands, type AddCommand, type CommandLoaders } from "../subcommands.js";

const COMMANDS: CommandLoaders = new Map<string, () => Promise<AddCommand>>([
  ["validate", async () => (await import("./validate.js")).addConfigValidateCommand],
  ["print", async () => (await import("./print.js")).addConfigPrintCommand],
  ["schema", async () => (await import("./schema.js")).addConfigSchemaCommand],
]);

/** Adds the group `config`. */
export async function addConfigCommand(
  program: Command,
  terminal: Terminal,
  args: readonly string[],
): Promise<void> {
  const config = program.command("config");
  await addCommands(COMMANDS, config, terminal, args);
}
