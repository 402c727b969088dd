// `kms-pkcs11 init`: prepares a node. Collects everything first (answers, the state of the node, consent, the PIN), then
// writes all files in one go, and ends with the preflight and the commands that follow.
import type { Command } from "commander";
import { resolve } from "node:path";
import { KmsError } from "../../errors.js";
import { kekUri } from "../../init/configuration.js";
import { inspectNode, type InspectedPart } from "../../init/inspection.js";
import { clusterDigest, nextSteps } from "../../init/next-steps.js";
import { readNodeFacts, UNKNOWN_NODE } from "../../init/node-facts.js";
import { planNode, type Planned } from "../../init/plan.js";
import { documentStream } from "../../init/stream.js";
import { readValues, type Answers } from "../../init/values.js";
import { writeNode } from "../../init/write-node.js";
import type { OutputFormat, Terminal } from "../output.js";
import { formatJson } from "../output.js";
import { pinFileContent } from "./pin.js";
import { checkNode, type NodeFindings } from "./preflight.js";
import { askForAnswers, confirmWriting } from "./questions.js";
import { partRecord, partsText, stepsText } from "./report.js";
import type { InitOutput } from "../output-schema/plugin.js";

interface InitOptions {
  readonly values?: string;
  readonly dryRun?: true;
  readonly print?: true;
  readonly force?: true;
  readonly yes?: true;
  readonly root: string;
  readonly pinStdin?: true;
  readonly output: OutputFormat;
}

const HELP = `
Asks for the HSM, the distribution, static pod or systemd unit, and the number of nodes, or reads the answers from --values.
Writes the configuration, the folders, the PIN file, the pod or the unit with what the HSM's library needs, and both
EncryptionConfigurations with the API server's settings. It changes neither the API server nor the HSM: the commands that it
prints at the end do. It shows every file first. A file that exists with another content, owner or mode stops it before it has
written anything, unless you give --force; the file that the API server reads, and a PIN, are kept even then. It can be run
again: it adds what is missing. For files elsewhere, such as the root of an image, give --root; the PIN is then left out unless
you give --pin-stdin.

Exit code 2: something has to be corrected first, and nothing was written.

Examples:
  kms-pkcs11 init
  kms-pkcs11 init --values node.yaml --pin-stdin < pin
  kms-pkcs11 init --values node.yaml --print > node-files.yaml`;

/** Adds `init`. */
export function addInitCommand(program: Command, terminal: Terminal): void {
  program
    .command("init")
    .option("--values <file>", "the answers (kind InitValues), instead of questions")
    .option("--dry-run", "only show what would be written")
    .option("--print", "print the files as a stream of YAML documents, without the PIN")
    .option("--force", "overwrite files that differ")
    .option("--yes", "do not ask before writing")
    .option("--root <dir>", "folder that holds the node's files", "/")
    .option("--pin-stdin", "read the PIN from standard input")
    .addHelpText("after", HELP)
    .action(async (_local, command: Command) => {
      const options = command.optsWithGlobals<InitOptions>();
      process.exitCode = await init({ ...options, root: resolve(options.root) }, terminal);
    });
}

async function init(options: InitOptions, terminal: Terminal): Promise<number> {
  requireUsable(options);
  const answers = options.values === undefined ? await askForAnswers() : readValues(options.values);
  if (options.print === true) {
    terminal.out(documentStream(answers, planFor(answers, options).parts).trimEnd());
    return 0;
  }
  if (answers.distribution === "talos") {
    throw new KmsError(
      "CONFIG_INVALID",
      "Talos takes files from its machine configuration only; run init --print",
    );
  }
  const { parts, warnings } = planFor(answers, options);
  for (const warning of warnings) terminal.err(`warning: ${warning}`);
  const inspected = inspectOrShow(parts, options, terminal);
  if (options.output === "table") terminal.out(partsText(inspected));
  refuseConflicts(inspected, options);
  const isDone = options.dryRun !== true && (await write(answers, inspected, options));
  return finish(answers, inspected, isDone, options, terminal);
}

function requireUsable({ dryRun, print, pinStdin, values }: InitOptions): void {
  if (dryRun === true && print === true) {
    throw new KmsError("CONFIG_INVALID", "give either --dry-run or --print");
  }
  if (pinStdin === true && values === undefined) {
    throw new KmsError(
      "CONFIG_INVALID",
      "--pin-stdin leaves no input for the questions; give --values FILE too",
    );
  }
  if (dryRun !== true && print !== true && process.geteuid?.() !== 0) {
    throw new KmsError(
      "CONFIG_INVALID",
      "init makes files of other users, which only root can do; run it as root, or give --dry-run or --print",
    );
  }
}

function planFor(answers: Answers, { root, print }: InitOptions): ReturnType<typeof planNode> {
  const isAway = print === true && root === "/";
  const plan = planNode(answers, isAway ? UNKNOWN_NODE : readNodeFacts(root));
  // /run is empty at the next boot, when the unit or systemd-tmpfiles makes its folders.
  const parts = root === "/" ? plan.parts : plan.parts.filter(({ path }) => !path.startsWith("/run/"));
  return { ...plan, parts };
}

/** Compares the plan with the node. A dry run shows the plan even if the node cannot be written to. */
function inspectOrShow(
  parts: readonly Planned[],
  { root, dryRun }: InitOptions,
  terminal: Terminal,
): InspectedPart[] {
  try {
    return inspectNode(parts, root);
  } catch (error) {
    if (dryRun === true) terminal.out(partsText(parts.map((part) => ({ part, state: "new" }))));
    throw error;
  }
}

function refuseConflicts(inspected: readonly InspectedPart[], { force }: InitOptions): void {
  if (force === true) return;
  const lines = inspected.flatMap(({ part, state, difference = "" }) =>
    state === "other" ? [`${part.path}: ${difference}`] : [],
  );
  if (lines.length === 0) return;
  const advice = "nothing was written; correct the values or the files, or overwrite them with --force";
  throw new KmsError("CONFIG_INVALID", [...lines, advice].join("\n"));
}

/** Returns whether the node has its PIN now. */
async function write(
  answers: Answers,
  inspected: readonly InspectedPart[],
  options: InitOptions,
): Promise<boolean> {
  const changes = inspected.filter(({ state }) => state === "new" || state === "other");
  const asks = process.stdin.isTTY && options.yes !== true && changes.length > 0;
  if (asks) await confirmWriting(changes.length);
  const pin = await newPin(answers, inspected, options);
  try {
    writeNode(inspected, options.root, pin);
  } finally {
    pin?.fill(0);
  }
  return pin !== undefined || inspected.some(({ part, state }) => part.kind === "pin" && state !== "new");
}

/** Returns the content of a PIN file that does not exist yet; undefined if it is left to the operator. */
async function newPin(
  answers: Answers,
  inspected: readonly InspectedPart[],
  { root, pinStdin, force }: InitOptions,
): Promise<Buffer | undefined> {
  for (const { part, state } of inspected) {
    if (part.kind !== "pin") continue;
    const isReplaced = pinStdin === true && force === true;
    if (state !== "new" && !isReplaced) return undefined;
    // A credential is encrypted for the machine that runs systemd-creds.
    const isElsewhere = root !== "/" && (pinStdin !== true || part.isEncrypted);
    if (isElsewhere) return undefined;
    if (pinStdin !== true && !process.stdin.isTTY) {
      throw new KmsError(
        "PIN_UNREADABLE",
        `${part.path} does not exist; give --pin-stdin, or run init on a terminal`,
      );
    }
    return pinFileContent(kekUri(answers).token ?? "", part.isEncrypted);
  }
  return undefined;
}

async function finish(
  answers: Answers,
  inspected: readonly InspectedPart[],
  hasPin: boolean,
  { output, root, dryRun }: InitOptions,
  terminal: Terminal,
): Promise<number> {
  const isHere = root === "/" && dryRun !== true;
  const checked = isHere && hasPin ? await checkNode(answers, terminal) : undefined;
  const steps = nextSteps(answers, readNodeFacts(root), {
    hasPin: hasPin || dryRun === true,
    hasKek: checked?.hasKek === true,
  });
  const digest = clusterDigest(answers);
  if (output === "json") {
    const parts = inspected.map(partRecord);
    terminal.out(
      formatJson({
        parts,
        findings: checked?.findings,
        clusterDigest: digest,
        next: steps,
      } satisfies InitOutput),
    );
  } else {
    terminal.out(closing(checked, digest, stepsText(steps)));
  }
  return checked?.exitCode ?? 0;
}

function closing(checked: NodeFindings | undefined, digest: string, steps: string): string {
  const findings = checked === undefined ? [] : ["", checked.table];
  return [...findings, "", `cluster digest ${digest}: the same on every node`, "", "Next:", steps].join("\n");
}
