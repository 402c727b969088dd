// The command line: finds the command, adds the common options, and reports a failure.
import { Command, CommanderError, Option } from "commander";
import { KmsError } from "../errors.js";
import { fileLimitIn } from "../file-limit.js";
import { fileError, refusalIn } from "../files/file-error.js";
import { VERSION } from "../version.js";
import { COMMANDS } from "./commands.js";
import { EXIT_USAGE } from "./exit-code.js";
import { asksForJson, reportFailure, reportLostResult, reportUsage } from "./failure.js";
import {
  handleOutputErrors,
  PROCESS_TERMINAL,
  showTablesInFull,
  type OutputFormat,
  type Terminal,
} from "./output.js";
import { addCommands } from "./subcommands.js";
import { throwUsageErrors, UsageError } from "./usage-error.js";
import { wrapHelp } from "./wrap-help.js";

/** The only argument of a command line for which the names and descriptions of the commands suffice. */
const LISTING: readonly (string | undefined)[] = [undefined, "-h", "--help", "help", "-V", "--version"];

/** Descriptions of options are wrapped down to this many columns; commander's own limit of 40 needs a terminal of 70. */
const NARROWEST_DESCRIPTION = 16;

/** Returns the program with the command that `args` begins with, or with all commands if it begins with none. */
export async function createProgram(terminal: Terminal, args: readonly string[]): Promise<Command> {
  const program = emptyProgram();
  // The help that a group without a command prints for people.
  if (asksForJson(args)) program.configureOutput({ writeErr: () => undefined });
  const loaders = new Map(COMMANDS.map(({ name, load }) => [name, load]));
  await addCommands(loaders, program, terminal, args);
  for (const command of program.commands) {
    command.description(COMMANDS.find(({ name }) => name === command.name())?.description ?? "");
  }
  inherit(program, program.commands);
  const { checkOptionValues } = await import("./option-values.js");
  checkOptionValues(program);
  return program;
}

/** Returns the program with names and descriptions of its commands, which cannot be run. */
export function listingProgram(): Command {
  const program = emptyProgram();
  for (const { name, argument = "", description, isGroup } of COMMANDS) {
    const command = program.command(`${name} ${argument}`).description(description);
    // The help shows "[options]" for a command that has at least one.
    if (isGroup !== true) command.option("--any");
  }
  return program;
}

function emptyProgram(): Command {
  const program = new Command("kms-pkcs11")
    .description("Kubernetes KMS v2 plugin whose key encryption key never leaves a PKCS#11 HSM")
    .version(VERSION)
    .addOption(
      new Option("-o, --output <format>", "output format").choices(["table", "json"]).default("table"),
    )
    .addOption(wideOption())
    // `run` reports errors.
    .configureOutput({ writeOut: printHelpText, outputError: () => undefined })
    .configureHelp({ minWidthToWrap: NARROWEST_DESCRIPTION })
    .addHelpText(
      "after",
      `
Exit codes: 0 done; 1 negative result; 2 usage or configuration; 3 HSM or network not reachable; 4 the result could not be
written to standard output; 130 cancelled by Ctrl-C, a signal, or the answer to a question.
With --output json, a command that fails ends its standard error with the line {"error": {"code", "message", "next"}}.
Fields and codes are never renamed or removed within a major version; new ones may be added.

Example:
  kms-pkcs11 check --config /etc/kms-pkcs11/config.yaml`,
    );
  throwUsageErrors(program);
  return program;
}

function printHelpText(text: string): void {
  const { columns, isTTY } = process.stdout;
  process.stdout.write(isTTY ? wrapHelp(text, columns) : text);
}

function wideOption(): Option {
  return new Option("--wide", "show tables in full, with whole key_ids, also on a narrow terminal");
}

/** Accepts `--output` and `--wide` before and after the command's name. */
function inherit(program: Command, commands: readonly Command[]): void {
  for (const command of commands) {
    command.copyInheritedSettings(program);
    throwUsageErrors(command);
    if (command.commands.length > 0) inherit(program, command.commands);
    else if (command.name() !== "serve") {
      command
        .addOption(new Option("-o, --output <format>", "output format").choices(["table", "json"]))
        .addOption(wideOption());
    }
  }
}

/** Prints the help of a command such as `keys rotate`; commander's own `help` reads the first name only. */
async function printHelp(names: readonly string[], output: OutputFormat, terminal: Terminal): Promise<void> {
  let command: Command | undefined = await createProgram(terminal, names);
  for (const name of names) command = command?.commands.find((one) => one.name() === name);
  if (command !== undefined) {
    command.outputHelp();
    return;
  }
  const { describeUnknown } = await import("./describe-usage.js");
  reportUsage(describeUnknown(names, await createProgram(terminal, [])), output, terminal);
}

/** Reports a command line that cannot be run, and sets the exit code. */
async function reportUsageError(
  error: UsageError,
  args: readonly string[],
  output: OutputFormat,
  terminal: Terminal,
): Promise<void> {
  // Its help was printed for people.
  if (error.code === "commander.help" && output !== "json") {
    process.exitCode = EXIT_USAGE;
    return;
  }
  const { describeUsage } = await import("./describe-usage.js");
  reportUsage(describeUsage(error, args, await createProgram(terminal, [])), output, terminal);
}

/** Prints the candidates for the last of the words, for a completion script. */
async function printCompletionOf(words: readonly string[], terminal: Terminal): Promise<void> {
  const { printCompletion } = await import("./completion/complete.js");
  const load = (named: readonly string[]): Promise<Command> =>
    named.length === 0 ? Promise.resolve(listingProgram()) : createProgram(terminal, named);
  await printCompletion(words, load);
}

/** Runs one command line; sets process.exitCode. */
export async function run(argv: readonly string[], terminal: Terminal = PROCESS_TERMINAL): Promise<void> {
  const args = argv.slice(2);
  const output = asksForJson(args) ? "json" : "table";
  handleOutputErrors((problem) => {
    reportLostResult(problem, output, terminal);
  });
  let endWaiting = (): void => undefined;
  try {
    if (args[0] === "help" && args.length > 1) {
      await printHelp(args.slice(1), output, terminal);
      return;
    }
    if (args[0] === "__complete") {
      await printCompletionOf(args.slice(1), terminal);
      return;
    }
    const listsOnly = args.length < 2 && LISTING.includes(args[0]);
    const program = listsOnly ? listingProgram() : await createProgram(terminal, args);
    program.hook("preAction", async (_program, command) => {
      if (command.optsWithGlobals<{ wide?: true }>().wide === true) showTablesInFull();
      if (!terminal.isInteractive || !showsWaiting(command)) return;
      const { startWaiting } = await import("./progress.js");
      endWaiting = startWaiting(terminal, pathOf(command));
    });
    await program.parseAsync(argv);
  } catch (error) {
    if (error instanceof UsageError) await reportUsageError(error, args, output, terminal);
    else if (error instanceof CommanderError) process.exitCode = error.exitCode;
    else reportFailure(knownError(error), output, terminal);
  } finally {
    endWaiting();
  }
}

/**
 * Reports an exception that nothing has caught, such as that of an event handler, and ends the process with the exit code
 * of a defect.
 */
export function reportUncaught(error: unknown, argv: readonly string[]): never {
  reportFailure(knownError(error), asksForJson(argv.slice(2)) ? "json" : "table", PROCESS_TERMINAL);
  process.exit();
}

/** These run until a signal, or prompt on the terminal themselves or by ssh-keygen. */
const WITHOUT_WAITING = /^(?:serve|console|init|approvals|custody)\b/u;

/** Returns whether a command that takes long shows that it waits: nothing else may write to the terminal meanwhile. */
export function showsWaiting(command: Command): boolean {
  // A kubeconfig's exec plugin may prompt.
  const mayRunExecPlugin = command.options.some(({ long }) => long === "--kubeconfig");
  return !mayRunExecPlugin && !WITHOUT_WAITING.test(pathOf(command));
}

/** Returns the names of a command, such as "keys rotate". */
function pathOf(command: Command): string {
  const parent = command.parent;
  return parent === null || parent.parent === null ? command.name() : `${pathOf(parent)} ${command.name()}`;
}

/** Returns the error to report; to a file error it adds which user was denied access by which folder. */
function knownError(error: unknown): KmsError {
  const known = KmsError.from(error);
  if (known.code === "INTERNAL") return fileError(known.cause) ?? known;
  const refusal = fileLimitIn(known.cause) ?? refusalIn(known.cause);
  if (refusal === undefined || known.message.includes(refusal)) return known;
  return new KmsError(known.code, `${known.message} (${refusal})`, known.cause);
}
