// `kms-pkcs11 custody split`: seals the token's PIN under a random key, and splits that key among custodians.
import type { Command } from "commander";
import { recordOperatorEvent } from "../../admin/operator-audit.js";
import { acceptedPin } from "../../admin/token-pin.js";
import { describeSelected } from "../../config/pkcs11-uri.js";
import {
  dropPrepared,
  prepareSealedPin,
  publishPrepared,
  readSealedPin,
  requireNoNext,
  requireNoSealedPin,
} from "../../custody/sealed-pin-file.js";
import { requirePossible, splitPin } from "../../custody/split.js";
import { operatorAt } from "../operator.js";
import { printResult } from "../next-step.js";
import type { Terminal } from "../output.js";
import { addKeyOptions, settingsFrom } from "../settings-options.js";
import { handOut, requireOutput } from "./hand-out.js";
import { addSealedOptions, chosenToken, sealedPathOf, type SealedOptions } from "./sealed-option.js";
import type { CustodySplitOutput } from "../output-schema/custody.js";

interface SplitOptions extends SealedOptions {
  readonly threshold: string;
  readonly shares: string;
  readonly out?: string;
  readonly replace?: true;
}

const NOT_SEALED = "no sealed PIN was written, so the shares handed out so far open nothing";

const HELP = `
The PIN comes from the configured source, from a prompt, or from --pin-stdin. The token has to accept it before it is sealed;
a wrong PIN costs one PIN attempt. Each share is shown on its own screen, with a prompt before it, or written to its own
HTML page (mode 0600) in the folder --out. The sealed PIN is written last: it is useless without enough shares.

Then let every custodian check the page ('custody test'), copy the sealed PIN to every node, set pin.unlock and pin.custody
there, and remove the PIN's earlier source. The runbook deploy/runbooks/custody.md describes the ceremony.

Example:
  kms-pkcs11 custody split --config /etc/kms-pkcs11/config.yaml --threshold 2 --shares 3 \\
    --sealed /etc/kms-pkcs11/pin.sealed`;

/** Adds `custody split`. */
export function addCustodySplitCommand(custody: Command, terminal: Terminal): void {
  addSealedOptions(addKeyOptions(custody.command("split")))
    .description(
      "seal the token's PIN and split the key to it among custodians; any M of the N shares open it",
    )
    .requiredOption("--threshold <M>", "how many shares open the PIN, at least 2")
    .requiredOption("--shares <N>", "how many shares to make, at most 16")
    .option(
      "--replace",
      "replace the sealed PIN: the same set, the next epoch; earlier shares are then outdated",
    )
    .option("--out <folder>", "write each share as an HTML page here, instead of showing it on the terminal")
    .addHelpText("after", HELP)
    .action(async (_local, command: Command) => {
      await runSplit(command.optsWithGlobals<SplitOptions>(), terminal);
    });
}

async function runSplit(options: SplitOptions, terminal: Terminal): Promise<void> {
  const threshold = Number(options.threshold);
  const count = Number(options.shares);
  requirePossible({ threshold, shares: count });
  const settings = settingsFrom(options, false);
  const token = chosenToken(settings, options.token);
  const path = sealedPathOf(token, options.sealed);
  const before = options.replace === true ? readSealedPin(path) : undefined;
  if (before === undefined) requireNoSealedPin(path);
  requireNoNext(path);
  requireOutput(options.out);
  const operator = operatorAt(terminal);
  const pin = await acceptedPin(settings, operator, token);
  const plan = {
    before,
    token: describeSelected(token.uri),
    role: token.userType,
    threshold,
    shares: count,
  };
  const { sealed, shares } = await splitPin(pin, plan).finally(() => pin.fill(0));
  try {
    prepareSealedPin(path, sealed);
    await handOut(shares, sealed, { folder: options.out, terminal, cancelled: NOT_SEALED });
    publishPrepared(path);
  } finally {
    for (const { point } of shares) point.fill(0);
    dropPrepared(path);
  }
  const details = { token: sealed.token, set: sealed.set, epoch: sealed.epoch, threshold, shares: count };
  await recordOperatorEvent(settings, operator, { operation: "custody split", outcome: "ok", details });
  const text = `${path}: any ${threshold} of ${count} shares of set ${sealed.set} open the PIN (epoch ${sealed.epoch})`;
  const result = {
    json: { sealed: path, ...details } satisfies Omit<CustodySplitOutput, "next">,
    text,
    change: { did: "split" } as const,
  };
  printResult(result, options.output, terminal);
}
