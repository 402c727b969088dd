// The command line: its commands, their common options, and how a failure is reported.
import { Command, CommanderError, Option } from "commander";
import { KmsError } from "../errors.js";
import { fileLimitIn } from "../file-limit.js";
import { fileError, refusalIn } from "../files/file-error.js";
import { VERSION } from "../version.js";
import { EXIT_USAGE } from "./exit-code.js";
import { asksForJson, reportFailure, reportLostResult, reportUsage } from "./failure.js";
import { showTablesInFull } from "./table-layout.js";
import { handleOutputErrors, PROCESS_TERMINAL, type Terminal } from "./output.js";
import { addCommands, type AddCommand } from "./subcommands.js";

interface CommandRow {
  readonly name: string;
  /** What the program's help says of it. */
  readonly description: string;
  /** Its argument, as the help shows it. */
  readonly argument?: string;
  /** Has commands of its own and no options. */
  readonly isGroup?: true;
  readonly load: () => Promise<AddCommand>;
}

/** In the order of the help. Listing them loads none: every module that is loaded delays the output. */
const COMMANDS: readonly CommandRow[] = [
  {
    name: "serve",
    description:
      "run the plugin; SIGTERM and SIGINT drain requests and remove the socket, SIGHUP reloads the configuration",
    load: async () => (await import("./serve.js")).addServeCommand,
  },
  {
    name: "init",
    description:
      "prepare a node: configuration, folders, PIN file, pod or unit, EncryptionConfigurations; then check",
    load: async () => (await import("./init/command.js")).addInitCommand,
  },
  {
    name: "check",
    description:
      "preflight as the plugin's user: config, files, sockets, token, PIN, keys, mechanism, round trip; exit 0 if every finding is ok or warn",
    load: async () => (await import("./check/command.js")).addCheckCommand,
  },
  {
    name: "config",
    description: "validate and print the configuration, and print its JSON Schema",
    isGroup: true,
    load: async () => (await import("./config/command.js")).addConfigCommand,
  },
  {
    name: "status",
    description:
      "call a running plugin over its socket; exit 0 if it answers healthz ok, 1 if not, 3 if it cannot be reached",
    load: async () => (await import("./status.js")).addStatusCommand,
  },
  {
    name: "unlock",
    description:
      "send the token's PIN to a running plugin; exit 0 if the token accepted it, 1 if not, 3 if no plugin can be reached",
    load: async () => (await import("./unlock.js")).addUnlockCommand,
  },
  {
    name: "lock",
    description: "have a running plugin forget its PIN and all seeds, and log out; exit 0 if it is locked",
    load: async () => (await import("./lock.js")).addLockCommand,
  },
  {
    name: "custody",
    description: "split the token's PIN among several custodians, check their shares, and rebuild it",
    isGroup: true,
    load: async () => (await import("./custody/command.js")).addCustodyCommand,
  },
  {
    name: "evidence",
    description:
      "collect what an auditor asks for in one folder with a page, and check such a folder offline",
    isGroup: true,
    load: async () => (await import("./evidence/command.js")).addEvidenceCommand,
  },
  {
    name: "conformance",
    description:
      "test any KMS v2 plugin for the behaviour that kube-apiserver relies on; exit 0 if every 'must' rule holds, 1 if not, 3 if it cannot be reached",
    load: async () => (await import("./conformance.js")).addConformanceCommand,
  },
  {
    name: "console",
    description: "serve a read-only page about all nodes to this machine's browser, until Ctrl-C",
    load: async () => (await import("./console/command.js")).addConsoleCommand,
  },
  {
    name: "keys",
    description: "create, list, rotate, adopt and destroy the generations of the KEK on the token",
    isGroup: true,
    load: async () => (await import("./keys/command.js")).addKeysCommand,
  },
  {
    name: "rotation",
    description: "rotate the KEK with one command, from preflight to retirement; show and cancel a rotation",
    isGroup: true,
    load: async () => (await import("./rotation/command.js")).addRotationCommand,
  },
  {
    name: "approvals",
    description: "policies and approvals: several people decide which KEK becomes active or is destroyed",
    isGroup: true,
    load: async () => (await import("./approvals/command.js")).addApprovalsCommand,
  },
  {
    name: "audit",
    description: "verify the audit log",
    isGroup: true,
    load: async () => (await import("./audit.js")).addAuditCommand,
  },
  {
    name: "bench",
    description: "measure the AES-256-GCM core, the token, and a running plugin compared with another one",
    load: async () => (await import("./bench/command.js")).addBenchCommand,
  },
  {
    name: "etcd",
    description: "count, verify, print and migrate the objects in etcd or in a snapshot",
    isGroup: true,
    load: async () => (await import("./etcd/command.js")).addEtcdCommand,
  },
  {
    name: "completion",
    argument: "<shell>",
    description: "print the completion script of bash, zsh or fish",
    load: async () => (await import("./completion/command.js")).addCompletionCommand,
  },
  {
    name: "version",
    description: "print the versions of the plugin and of its runtime",
    load: async () => (await import("./version.js")).addVersionCommand,
  },
];
/** What can be answered by the names and descriptions of the commands, if it is the only argument. */
const LISTING: readonly (string | undefined)[] = [undefined, "-h", "--help", "help", "-V", "--version"];

/** Returns the program with the command that `args` begins with, or with all commands if it begins with none. */
export async function createProgram(terminal: Terminal, args: readonly string[]): Promise<Command> {
  const program = emptyProgram();
  // Commander's text for people; `run` reports the error.
  if (asksForJson(args)) program.configureOutput({ writeErr: () => undefined });
  const loaders = new Map(COMMANDS.map(({ name, load }) => [name, load]));
  await addCommands(loaders, program, terminal, args);
  for (const command of program.commands) {
    command.description(COMMANDS.find(({ name }) => name === command.name())?.description ?? "");
  }
  inherit(program, program.commands);
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
  return new Command("kms-pkcs11")
    .description("Kubernetes KMS v2 plugin whose key encryption key never leaves a PKCS#11 HSM")
    .version(VERSION)
    .addOption(
      new Option("-o, --output <format>", "output format").choices(["table", "json"]).default("table"),
    )
    .addOption(wideOption())
    .showHelpAfterError("(run with --help for usage)")
    .exitOverride()
    .addHelpText(
      "after",
      `
Exit codes: 0 done; 1 negative result; 2 usage or configuration; 3 HSM or network not reachable; 4 the result could not be
written to standard output.
With --output json, a command that fails ends its standard error with the line {"error": {"code", "message", "next"}}.
Fields and codes are never renamed or removed within a major version; new ones may be added.

Example:
  kms-pkcs11 check --config /etc/kms-pkcs11/config.yaml`,
    );
}

function wideOption(): Option {
  return new Option("--wide", "show tables in full, with whole key_ids, also on a narrow terminal");
}

/** Accepts `--output` and `--wide` before and after the command's name. */
function inherit(program: Command, commands: readonly Command[]): void {
  for (const command of commands) {
    command.copyInheritedSettings(program);
    if (command.commands.length > 0) inherit(program, command.commands);
    else if (command.name() !== "serve") {
      command
        .addOption(new Option("-o, --output <format>", "output format").choices(["table", "json"]))
        .addOption(wideOption());
    }
  }
}

/** Prints the help of a command such as `keys rotate`; commander's own `help` reads the first name only. */
async function printHelp(names: readonly string[], terminal: Terminal): Promise<void> {
  const program = await createProgram(terminal, names);
  let command: Command | undefined = program;
  for (const name of names) command = command?.commands.find((one) => one.name() === name);
  if (command === undefined) program.error(`error: unknown command '${names.join(" ")}'`);
  else command.outputHelp();
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
      await printHelp(args.slice(1), terminal);
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
      if (!terminal.isInteractive || !mayWait(command)) return;
      const { startWaiting } = await import("./progress.js");
      endWaiting = startWaiting(terminal, pathOf(command));
    });
    await program.parseAsync(argv);
  } catch (error) {
    if (!(error instanceof CommanderError)) reportFailure(knownError(error), output, terminal);
    else if (error.exitCode === 0) process.exitCode = 0;
    else if (output === "json") reportUsage(error.message, terminal);
    else process.exitCode = EXIT_USAGE;
  } finally {
    endWaiting();
  }
}

/** These run until a signal, or other programs write to the terminal while they work: ssh-keygen, exec plugins. */
const WITHOUT_WAITING = /^(?:serve|console|init|approvals|custody|etcd migrate)\b/u;

function mayWait(command: Command): boolean {
  return !WITHOUT_WAITING.test(pathOf(command));
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
