// `kms-pkcs11 custody renew`: replaces the token's PIN by a random one that nobody has seen, split among custodians again.
import { dirname } from "node:path";
import { InvalidArgumentError, type Command } from "commander";
import { approvalCheck } from "../../admin/approval-check.js";
import { nodesWithPin } from "../../admin/locked-nodes.js";
import { audited } from "../../admin/operator-audit.js";
import { PinChange } from "../../admin/pin-change.js";
import { renewalLabel } from "../../approvals/proposal.js";
import { describeSelected } from "../../config/pkcs11-uri.js";
import { Gathering } from "../../custody/gathering.js";
import { pinLength, randomPin } from "../../custody/random-pin.js";
import { renewPin, type Renewal } from "../../custody/renewal.js";
import { readSealedPin } from "../../custody/sealed-pin-file.js";
import { requireSealedFor, type SealedPin } from "../../custody/sealed-pin.js";
import { requirePossible, type SplitPin } from "../../custody/split.js";
import type { Settings, TokenSettings } from "../../config/settings.js";
import { KmsError } from "../../errors.js";
import { makePrivateFolder } from "../../files/private-folder.js";
import { takeProcessLock } from "../../files/process-lock.js";
import { addApprovalOption, type ApprovalOption } from "../approval-option.js";
import { addEveryNodeOption, nodesOf, type NodesOptions } from "../nodes-option.js";
import { operatorAt } from "../operator.js";
import { printResult } from "../next-step.js";
import type { Terminal } from "../output.js";
import type { CustodySplitOutput } from "../output-schema/custody.js";
import { addAsOption, addKekOptions, settingsFrom } from "../settings-options.js";
import { enterShares, type Entered } from "./enter-shares.js";
import { gatherShares } from "./gather-shares.js";
import { handOut, pressEnter, requireOutput } from "./hand-out.js";
import { addSealedOptions, chosenToken, sealedPathOf, type SealedOptions } from "./sealed-option.js";

interface RenewOptions extends SealedOptions, ApprovalOption, NodesOptions {
  readonly threshold?: number;
  readonly shares?: number;
  readonly out?: string;
  readonly digits?: true;
  readonly length?: number;
}

const UNCHANGED = "the token keeps its PIN, and the present shares stay valid; destroy the new pages";

const HELP = `
Enough custodians enter their present shares. Then each of them gets a share of a new random PIN, and on a terminal enough of
them type the new shares from their pages. Only then does the token change its PIN (C_SetPIN): nobody sees it, and shares of
earlier epochs open nothing any more. On standard input, give one share on each line, and --out for the new pages.

If the command is interrupted, run it again with the shares of both epochs: it tries, with at most one PIN attempt each, which
PIN the token has, and finishes or begins again. Keep the earlier pages until it says that the new epoch is in force.

Lock every plugin of the token before the PIN changes: one that logs in with the earlier PIN spends a PIN attempt. With --nodes, or
the setting nodes, the PIN does not change while one of them is not locked. The runbook deploy/runbooks/custody.md describes the
ceremony.

Example:
  kms-pkcs11 custody renew --config /etc/kms-pkcs11/config.yaml`;

/** Adds `custody renew`. */
export function addCustodyRenewCommand(custody: Command, terminal: Terminal): void {
  addEveryNodeOption(
    addApprovalOption(addSealedOptions(addAsOption(addKekOptions(custody.command("renew"))))),
  )
    .description("give the token a random PIN that nobody has seen, and new shares to the custodians")
    .option("--threshold <M>", "how many new shares open the PIN; default: as many as now", wholeNumber)
    .option("--shares <N>", "how many new shares to make, at most 16; default: as many as now", wholeNumber)
    .option("--out <folder>", "write each share as an HTML page here, instead of showing it on the terminal")
    .option("--digits", "make a PIN of digits, for tokens that accept nothing else")
    .option("--length <bytes>", "length of the PIN; default: 32, or what the token allows", wholeNumber)
    .addHelpText("after", HELP)
    .action(async (_local, command: Command) => {
      await runRenew(command.optsWithGlobals<RenewOptions>(), terminal);
    });
}

function wholeNumber(text: string): number {
  if (/^\d{1,3}$/.test(text)) return Number(text);
  throw new InvalidArgumentError("give a whole number");
}

async function runRenew(options: RenewOptions, terminal: Terminal): Promise<void> {
  const settings = settingsFrom(options, false);
  const token = chosenToken(settings, options.token);
  const path = sealedPathOf(token, options.sealed);
  const before = readSealedPin(path);
  requireSealedFor(before, { token: describeSelected(token.uri), role: token.userType }, path);
  const { threshold = before.threshold, shares = before.shares.length } = options;
  requirePossible({ threshold, shares });
  requireOutput(options.out);
  const lock = await lockRenewal(settings.stateDir ?? dirname(path));
  try {
    const plan = { threshold, shares };
    const sealed = await renew({ settings, token, path, before, plan, options, terminal });
    report(sealed, path, options, terminal);
  } finally {
    lock.release();
  }
}

interface Circumstances {
  readonly settings: Settings;
  readonly token: TokenSettings;
  readonly path: string;
  readonly before: SealedPin;
  readonly plan: Renewal["plan"];
  readonly options: RenewOptions;
  readonly terminal: Terminal;
}

async function renew(circumstances: Circumstances): Promise<SealedPin> {
  const { settings, token, before, options, terminal } = circumstances;
  const operator = operatorAt(terminal);
  const approve = approvalCheck(settings, options.approval);
  const approved = { operation: "renew", names: [], label: renewalLabel(before) } as const;
  await approve(approved);
  const nodes = nodesOf(options, settings);
  if (!process.stdin.isTTY) await requireLocked(nodes);
  const change = new PinChange(settings, operator, token);
  const entries = enterShares();
  const details = { token: before.token, set: before.set, before: before.epoch };
  try {
    const choosePin = await pinChooser(change, options);
    return await audited(
      settings,
      operator,
      { operation: "custody renew", details },
      (begin) =>
        renewPin({
          ...ceremony(circumstances, entries),
          token: change,
          choosePin,
          begin: async () => {
            await waitForLocks(nodes, terminal);
            await begin({ details: { ...details, ...(await approve(approved)) } });
          },
        }),
      ({ epoch }) => ({ details: { ...details, epoch } }),
    );
  } finally {
    await entries.return(undefined);
    await change.stop();
  }
}

/** Returns what makes PINs for the token, whose limits it reads first. @throws KmsError if the token allows no such PIN */
async function pinChooser(change: PinChange, options: RenewOptions): Promise<Renewal["choosePin"]> {
  const token = await change.describe();
  const { minPinBytes: min, maxPinBytes: max } = token;
  const rules = { min, max, length: options.length, digitsOnly: options.digits === true };
  pinLength(rules);
  return (present) => {
    for (;;) {
      const pin = randomPin(rules);
      if (!change.isMistakable(token, pin, present)) return pin;
      pin.fill(0);
    }
  };
}

function ceremony(
  { path, plan, options, terminal }: Circumstances,
  entries: AsyncGenerator<Entered>,
): Pick<Renewal, "path" | "plan" | "gather" | "handOut" | "notify"> {
  return {
    path,
    plan,
    gather: (among) => gatherShares(entries, among, terminal),
    handOut: (made) => handOutAndConfirm(made, options.out, terminal),
    notify: (line) => {
      terminal.err(line);
    },
  };
}

async function lockRenewal(folder: string): ReturnType<typeof takeProcessLock> {
  makePrivateFolder(folder);
  try {
    return await takeProcessLock({ folder, name: "custody-renew", doing: "renewing", patienceMs: 0 });
  } catch (error) {
    if (!(error instanceof KmsError)) throw error;
    throw new KmsError("CONFIG_INVALID", "another custody renew is running; wait until it ends", error);
  }
}

/** Hands out the shares; on a terminal, enough custodians then type theirs, which proves that the pages open the PIN. */
async function handOutAndConfirm(
  { sealed, shares }: SplitPin,
  folder: string | undefined,
  terminal: Terminal,
): Promise<void> {
  await handOut(shares, sealed, { folder, terminal, cancelled: UNCHANGED });
  if (!process.stdin.isTTY) return;
  terminal.err(
    `Now ${sealed.threshold} custodians type the new share from their pages. The token still has the present PIN.`,
  );
  const gathering = new Gathering(sealed);
  const entries = enterShares();
  try {
    (await (await gatherShares(entries, [gathering], terminal)).open()).fill(0);
  } finally {
    gathering.clear();
    await entries.return(undefined);
  }
}

/** On a terminal, asks until no node holds the PIN. @throws KmsError CANCELLED; TOKEN_REFUSED without a terminal */
async function waitForLocks(nodes: readonly URL[], terminal: Terminal): Promise<void> {
  if (!process.stdin.isTTY) return requireLocked(nodes);
  for (;;) {
    await pressEnter(
      "Run 'kms-pkcs11 lock' on every node that uses this token. Press Enter to change the PIN, or Ctrl-C to keep it.",
      UNCHANGED,
    );
    const holders = await nodesWithPin(nodes);
    if (holders.length === 0) return;
    for (const holder of holders) terminal.err(`not yet: ${holder}`);
  }
}

/** @throws KmsError TOKEN_REFUSED that names a node */
async function requireLocked(nodes: readonly URL[]): Promise<void> {
  const [holder] = await nodesWithPin(nodes);
  if (holder !== undefined) throw new KmsError("TOKEN_REFUSED", `the PIN was not changed: ${holder}`);
}

function report(sealed: SealedPin, path: string, { output }: RenewOptions, terminal: Terminal): void {
  const { token, set, epoch, threshold, shares } = sealed;
  const json = { sealed: path, token, set, epoch, threshold, shares: shares.length } satisfies Omit<
    CustodySplitOutput,
    "next"
  >;
  const text = `epoch ${epoch} is in force: any ${threshold} of ${shares.length} shares of set ${set} open the PIN in ${path}`;
  printResult({ json, text, change: { did: "renew" } }, output, terminal);
}
