// The command line: its commands, their common options, and how a failure is reported.
import { Command, CommanderError, Option } from "commander";
import { fileLimitIn, KmsError } from "../errors.js";
import { fileError, refusalIn } from "../files/file-error.js";
import { VERSION } from "../version.js";
import { EXIT_USAGE, exitCodeOf } from "./exit-code.js";
import { handleOutputErrors, PROCESS_TERMINAL, type Terminal } from "./output.js";
import { addCommands, type AddCommand, type CommandLoaders } from "./subcommands.js";

const COMMANDS: CommandLoaders = new Map<string, () => Promise<AddCommand>>([
  ["serve", async () => (await import("./serve.js")).addServeCommand],
  ["check", async () => (await import("./check/command.js")).addCheckCommand],
  ["status", async () => (await import("./status.js")).addStatusCommand],
  ["unlock", async () => (await import("./unlock.js")).addUnlockCommand],
  ["conformance", async () => (await import("./conformance.js")).addConformanceCommand],
  ["keys", async () => (await import("./keys/command.js")).addKeysCommand],
  ["audit", async () => (await import("./audit.js")).addAuditCommand],
  ["bench", async () => (await import("./bench/command.js")).addBenchCommand],
  ["etcd", async () => (await import("./etcd/command.js")).addEtcdCommand],
]);

/** Returns the program with the command that `args` begins with, or with all commands if it begins with none. */
export async function createProgram(terminal: Terminal, args: readonly string[]): Promise<Command> {
  const program = new Command("kms-pkcs11")
    .description("Kubernetes KMS v2 plugin whose key encryption key never leaves a PKCS#11 HSM")
    .version(VERSION)
    .addOption(
      new Option("-o, --output <format>", "output format").choices(["table", "json"]).default("table"),
    )
    .showHelpAfterError("(run with --help for usage)")
    .exitOverride()
    .addHelpText(
      "after",
      `
Exit codes: 0 done; 1 negative result; 2 usage or configuration; 3 HSM or network not reachable; 4 the result could not be
written to standard output.

Example:
  kms-pkcs11 check --config /etc/kms-pkcs11/config.yaml`,
    );
  await addCommands(COMMANDS, program, terminal, args);
  inherit(program, program.commands);
  return program;
}

/** Accepts `--output` before and after the command's name. */
function inherit(program: Command, commands: readonly Command[]): void {
  for (const command of commands) {
    command.copyInheritedSettings(program);
    if (command.commands.length > 0) inherit(program, command.commands);
    else if (command.name() !== "serve") {
      command.addOption(new Option("-o, --output <format>", "output format").choices(["table", "json"]));
    }
  }
}

/** Runs one command line; sets process.exitCode. */
export async function run(argv: readonly string[], terminal: Terminal = PROCESS_TERMINAL): Promise<void> {
  handleOutputErrors();
  try {
    const program = await createProgram(terminal, argv.slice(2));
    await program.parseAsync(argv);
  } catch (error) {
    if (error instanceof CommanderError) {
      process.exitCode = error.exitCode === 0 ? 0 : EXIT_USAGE;
      return;
    }
    const known = knownError(error);
    terminal.err(`kms-pkcs11: ${known.message}`);
    if (known.code === "INTERNAL" && known.cause instanceof Error) {
      terminal.err(known.cause.stack ?? known.cause.message);
    }
    process.exitCode = exitCodeOf(known.code);
  }
}

/** Returns the error to report; to a file error it adds which user was denied access by which folder. */
function knownError(error: unknown): KmsError {
  const known = KmsError.from(error);
  if (known.code === "INTERNAL") return fileError(known.cause) ?? known;
  const refusal = fileLimitIn(known.cause) ?? refusalIn(known.cause);
  if (refusal === undefined || known.message.includes(refusal)) return known;
  return new KmsError(known.code, `${known.message} (${refusal})`, known.cause);
}
