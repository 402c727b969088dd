// `kms-pkcs11 keys`: the commands for the generations of the KEK.
import type { Command } from "commander";
import type { Terminal } from "../output.js";
import { addCommands, type AddCommand, type CommandLoaders } from "../subcommands.js";

const COMMANDS: CommandLoaders = new Map<string, () => Promise<AddCommand>>([
  ["create", async () => (await import("./create.js")).addKeysCreateCommand],
  ["list", async () => (await import("./list.js")).addKeysListCommand],
  ["rotate", async () => (await import("./rotate.js")).addKeysRotateCommand],
  ["adopt", async () => (await import("./adopt.js")).addKeysAdoptCommand],
  ["destroy", async () => (await import("./destroy.js")).addKeysDestroyCommand],
]);

/** Adds the group `keys`. */
export async function addKeysCommand(
  program: Command,
  terminal: Terminal,
  args: readonly string[],
): Promise<void> {
  const keys = program.command("keys");
  await addCommands(COMMANDS, keys, terminal, args);
}
