// `kms-pkcs11 etcd`: the commands that read stored objects without an API server, or have one rewrite them.
import type { Command } from "commander";
import type { Terminal } from "../output.js";
import { addCommands, type AddCommand, type CommandLoaders } from "../subcommands.js";

const COMMANDS: CommandLoaders = new Map<string, () => Promise<AddCommand>>([
  ["usage", async () => (await import("./usage.js")).addEtcdUsageCommand],
  ["verify", async () => (await import("./verify.js")).addEtcdVerifyCommand],
  ["get", async () => (await import("./get.js")).addEtcdGetCommand],
  ["migrate", async () => (await import("./migrate.js")).addEtcdMigrateCommand],
]);

/** Adds the group `etcd`. */
export async function addEtcdCommand(
  program: Command,
  terminal: Terminal,
  args: readonly string[],
): Promise<void> {
  const etcd = program.command("etcd");
  await addCommands(COMMANDS, etcd, terminal, args);
}
