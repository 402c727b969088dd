// `kms-pkcs11 custody test`: checks shares without showing the PIN, and without a token.
import type { Command } from "commander";
import { describeFault, Gathering } from "../../custody/gathering.js";
import { readSealedPin } from "../../custody/sealed-pin-file.js";
import type { SealedPin } from "../../custody/sealed-pin.js";
import { KmsError } from "../../errors.js";
import { EXIT_NO } from "../exit-code.js";
import { formatJson, type Terminal } from "../output.js";
import { formatTable } from "../table.js";
import { addClusterOption, configHelp } from "../settings-options.js";
import { enterShares, type Entered } from "./enter-shares.js";
import { addSealedOptions, sealedPath, type SealedOptions } from "./sealed-option.js";
import type { CustodyTestOutput } from "../output-schema/custody.js";

type Row = CustodyTestOutput["shares"][number];

const HELP = `
Prompts for shares on a terminal, without echo, or reads one from each line of standard input. Each share is checked alone:
its checksum, its set, its epoch, and whether it was issued with this sealed PIN. With enough shares the PIN is opened, but
not shown. No token is opened, and no PIN attempt is made.

Exit code 1 means that a share is wrong, or that the sealed PIN was altered.

Example:
  kms-pkcs11 custody test --sealed /etc/kms-pkcs11/pin.sealed`;

/** Adds `custody test`. */
export function addCustodyTestCommand(custody: Command, terminal: Terminal): void {
  addClusterOption(addSealedOptions(custody.command("test")))
    .description("check custodians' shares without showing the PIN; exit 0 if all are right, 1 if one is not")
    .option("-c, --config <file>", configHelp("--sealed"))
    .addHelpText("after", HELP)
    .action(async (_local, command: Command) => {
      const options = command.optsWithGlobals<SealedOptions>();
      await runTest(readSealedPin(sealedPath(options)), options, terminal);
    });
}

async function runTest(sealed: SealedPin, { output }: SealedOptions, terminal: Terminal): Promise<void> {
  const gathering = new Gathering(sealed);
  const rows: Row[] = [];
  try {
    for await (const entered of enterShares()) {
      const row = judge(entered, gathering);
      rows.push(row);
      if (process.stdin.isTTY) terminal.err(row.text);
    }
    if (rows.length === 0) {
      throw new KmsError("INPUT_INVALID", "no share was entered; enter one on each line");
    }
    const { opens, text } = await conclude(gathering);
    if (output === "json") terminal.out(formatJson({ shares: rows, opens } satisfies CustodyTestOutput));
    else terminal.out(`${table(rows)}\n${text}`);
    if (rows.some(({ result }) => result !== "ok")) process.exitCode = EXIT_NO;
  } finally {
    gathering.clear();
  }
}

function judge(entered: Entered, gathering: Gathering): Row {
  const { entry, share } = entered;
  if (share === undefined) {
    return { entry, share: null, epoch: null, result: "unreadable", text: entered.problem };
  }
  const { index, epoch } = share;
  const fault = gathering.add(share);
  const text = fault === undefined ? "ok" : describeFault(fault, share, gathering.sealed);
  return { entry, share: index, epoch, result: fault ?? "ok", text };
}

/** Opens the PIN if there are enough shares, and zeroes it. */
async function conclude(gathering: Gathering): Promise<{ readonly opens: boolean; readonly text: string }> {
  const { count, missing, sealed } = gathering;
  const text = `set ${sealed.set}, epoch ${sealed.epoch}: ${count} of ${sealed.threshold} shares`;
  if (missing > 0) return { opens: false, text };
  (await gathering.open()).fill(0);
  return { opens: true, text: `${text}; they open the PIN (not shown)` };
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
