// The command line: what commands there are, what they share, and how a failure ends.
import { Command, CommanderError, Option } from "commander";
import { KmsError } from "../errors.js";
import { VERSION } from "../serve.js";
import { addAuditCommand } from "./audit.js";
import { addBenchCommand } from "./bench.js";
import { addCheckCommand } from "./check.js";
import { addEtcdCommand } from "./etcd.js";
import { addConformanceCommand } from "./conformance.js";
import { EXIT_USAGE, exitCodeOf } from "./exit-code.js";
import { addKeysCommand } from "./keys.js";
import { PROCESS_TERMINAL, type Terminal } from "./output.js";
import { addServeCommand } from "./serve.js";
import { addStatusCommand } from "./status.js";
import { addUnlockCommand } from "./unlock.js";

export function createProgram(terminal: Terminal): Command {
  const program = new Command("kms-pkcs11")
    .description("Kubernetes KMS v2 plugin whose key encryption key never leaves a PKCS#11 HSM")
    .version(VERSION)
    .addOption(
      new Option("-o, --output <format>", "what is printed").choices(["table", "json"]).default("table"),
    )
    .showHelpAfterError("(run with --help for what there is)")
    .exitOverride()
    .addHelpText(
      "after",
      `
Exit codes: 0 done; 1 the answer is no; 2 usage or configuration; 3 HSM or network not reachable.

Example:
  kms-pkcs11 check --config /etc/kms-pkcs11/config.yaml`,
    );
  addServeCommand(program);
  addCheckCommand(program, terminal);
  addStatusCommand(program, terminal);
  addUnlockCommand(program, terminal);
  addConformanceCommand(program, terminal);
  addKeysCommand(program, terminal);
  addAuditCommand(program, terminal);
  addBenchCommand(program, terminal);
  addEtcdCommand(program, terminal);
  inherit(program, program.commands);
  return program;
}

/** `--output` may stand before or after the command's name. */
function inherit(program: Command, commands: readonly Command[]): void {
  for (const command of commands) {
    command.copyInheritedSettings(program);
    if (command.commands.length > 0) inherit(program, command.commands);
    else if (command.name() !== "serve")
      command.addOption(new Option("-o, --output <format>", "what is printed").choices(["table", "json"]));
  }
}

/** Runs one command line; sets process.exitCode. */
export async function run(argv: readonly string[], terminal: Terminal = PROCESS_TERMINAL): Promise<void> {
  try {
    await createProgram(terminal).parseAsync(argv);
  } catch (error) {
    if (error instanceof CommanderError) {
      process.exitCode = error.exitCode === 0 ? 0 : EXIT_USAGE;
      return;
    }
    const known = KmsError.from(error);
    terminal.err(`kms-pkcs11: ${known.message}`);
    if (known.code === "INTERNAL" && known.cause instanceof Error)
      terminal.err(known.cause.stack ?? known.cause.message);
    process.exitCode = exitCodeOf(known.code);
  }
}
