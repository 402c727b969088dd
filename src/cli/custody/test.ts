// `kms-pkcs11 custody test`: checks shares without showing the PIN, and without a token.
import type { Command } from "commander";
import { describeFault, faultOf, Gathering } from "../../custody/gathering.js";
import { readSealedPin } from "../../custody/sealed-pin-file.js";
import type { SealedPin } from "../../custody/sealed-pin.js";
import { EXIT_NO } from "../exit-code.js";
import { formatJson, formatTable, type Terminal } from "../output.js";
import { configHelp } from "../settings-options.js";
import { enterShares, type Entered } from "./enter-shares.js";
import { addSealedOptions, sealedPath, type SealedOptions } from "./sealed-option.js";

interface Row {
  readonly entry: number;
  readonly share: number | null;
  readonly epoch: number | null;
  readonly result: string;
  readonly text: string;
}

const HELP = `
Prompts for shares on a terminal, without echo, or reads one from each line of standard input. Each share is checked alone:
its checksum, its set, its epoch, and whether it was issued with this sealed PIN. With enough shares the PIN is opened, but
not shown. No token is opened, and no PIN attempt is made.

Exit code 1 means that a share is wrong, or that the sealed PIN was altered.

Example:
  kms-pkcs11 custody test --sealed /etc/kms-pkcs11/pin.sealed`;

/** Adds `custody test`. */
export function addCustodyTestCommand(custody: Command, terminal: Terminal): void {
  addSealedOptions(custody.command("test"))
    .description("check custodians' shares without showing the PIN; exit 0 if all are right, 1 if one is not")
    .option("-c, --config <file>", configHelp("--sealed"))
    .addHelpText("after", HELP)
    .action(async (_local, command: Command) => {
      const options = command.optsWithGlobals<SealedOptions>();
      await runTest([readSealedPin(sealedPath(options))], options, terminal);
    });
}

async function runTest(
  sealed: readonly SealedPin[],
  { output }: SealedOptions,
  terminal: Terminal,
): Promise<void> {
  const gatherings = sealed.map((one) => new Gathering(one));
  const rows: Row[] = [];
  try {
    for await (const entered of enterShares()) {
      const row = judge(entered, gatherings);
      rows.push(row);
      if (process.stdin.isTTY) terminal.err(row.text);
    }
    const results = await Promise.all(gatherings.map((one) => conclude(one)));
    const opens = results.some(({ isOpen }) => isOpen);
    if (output === "json") terminal.out(formatJson({ shares: rows, opens }));
    else terminal.out([table(rows), ...results.map(({ text }) => text)].join("\n"));
    if (rows.length === 0 || rows.some(({ result }) => result !== "ok")) process.exitCode = EXIT_NO;
  } finally {
    for (const one of gatherings) one.clear();
  }
}

function judge(entered: Entered, gatherings: readonly Gathering[]): Row {
  const { entry, share } = entered;
  if (share === undefined) {
    return { entry, share: null, epoch: null, result: "unreadable", text: entered.problem };
  }
  const { index, epoch } = share;
  const fitting = gatherings.find(({ sealed }) => faultOf(share, sealed) === undefined) ?? gatherings[0];
  const fault = fitting?.add(share);
  const text =
    fault === undefined || fitting === undefined ? "ok" : describeFault(fault, share, fitting.sealed);
  return { entry, share: index, epoch, result: fault ?? "ok", text };
}

async function conclude(gathering: Gathering): Promise<{ readonly isOpen: boolean; readonly text: string }> {
  const { count, missing, sealed } = gathering;
  const name = `set ${sealed.set}, epoch ${sealed.epoch}`;
  if (missing > 0) return { isOpen: false, text: `${name}: ${count} of ${sealed.threshold} shares` };
  (await gathering.open()).fill(0);
  return {
    isOpen: true,
    text: `${name}: ${count} of ${sealed.threshold} shares; they open the PIN (not shown)`,
  };
}

function table(rows: readonly Row[]): string {
  const cells = rows.map(({ entry, share, epoch, result, text }) => [
    String(entry),
    share === null ? "" : String(share),
    epoch === null ? "" : String(epoch),
    result,
    text === "ok" ? "" : text,
  ]);
  return formatTable(["ENTRY", "SHARE", "EPOCH", "RESULT", "WHAT TO DO"], cells);
}
