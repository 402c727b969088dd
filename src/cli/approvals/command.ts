// `kms-pkcs11 approvals`: the commands for policies and approvals.
import type { Command } from "commander";
import type { Terminal } from "../output.js";
import { addCommands, type AddCommand, type CommandLoaders } from "../subcommands.js";

const COMMANDS: CommandLoaders = new Map<string, () => Promise<AddCommand>>([
  ["policy", async () => (await import("./policy.js")).addPolicyCommands],
  ["propose", async () => (await import("./propose.js")).addProposeCommand],
  ["sign", async () => (await import("./sign.js")).addSignCommand],
  ["show", async () => (await import("./show.js")).addShowCommand],
  ["deliver", async () => (await import("./deliver.js")).addDeliverCommand],
]);

/** Adds the group `approvals`. */
export async function addApprovalsCommand(
  program: Command,
  terminal: Terminal,
  args: readonly string[],
): Promise<void> {
  const approvals = program.command("approvals");
  await addCommands(COMMANDS, approvals, terminal, args);
}
