// Shows what is signed, asks, and has ssh-keygen sign it: shared by the commands that sign.
import { existsSync } from "node:fs";
import type { Command } from "commander";
import { describeProposal, type Row } from "../../approvals/describe.js";
import { signedBytes, type Approval } from "../../approvals/proposal.js";
import { signWithSshKeygen } from "../../approvals/ssh-keygen.js";
import { KmsError } from "../../errors.js";
import { askLine } from "../ask-line.js";
import type { OutputFormat, Terminal } from "../output.js";
import { formatFacts } from "../table.js";

export interface SigningOptions {
  readonly identity: string;
  readonly yes?: true;
  readonly output: OutputFormat;
}

/** Adds --identity and --yes. */
export function addSigningOptions(command: Command): Command {
  return command
    .requiredOption(
      "-i, --identity <file>",
      "key for ssh-keygen -Y sign: a private key, or a public key whose private key is in ssh-agent",
    )
    .option("--yes", "sign without asking; required without a terminal");
}

/** Shows a proposal, asks, and returns its approval with one more signature. @throws KmsError CANCELLED, CONFIG_INVALID */
export async function signProposal(
  approval: Approval,
  options: SigningOptions,
  terminal: Terminal,
): Promise<Approval> {
  const rows = describeProposal(approval.proposal);
  const signature = await signAfterAsking(rows, signedBytes(approval), options, terminal);
  return { ...approval, signatures: [...approval.signatures, signature] };
}

/** Shows rows on standard error, asks, and returns the signature. @throws KmsError CANCELLED, CONFIG_INVALID */
export async function signAfterAsking(
  rows: readonly Row[],
  message: Uint8Array,
  { identity, yes }: Pick<SigningOptions, "identity" | "yes">,
  terminal: Terminal,
): Promise<string> {
  requireIdentity(identity);
  terminal.err(formatFacts(rows));
  if (yes !== true) await confirm();
  return signWithSshKeygen(identity, message);
}

/** Requires a key before anybody is asked. If the key is in an agent, ssh-keygen needs only its public part. */
function requireIdentity(path: string): void {
  if (existsSync(path) || existsSync(`${path}.pub`)) return;
  throw new KmsError("CONFIG_INVALID", `--identity: ${path} does not exist; give your private or public key`);
}

async function confirm(): Promise<void> {
  if (!process.stdin.isTTY) {
    throw new KmsError("CONFIG_INVALID", "--yes: is required without a terminal to ask on");
  }
  const typed = await askLine('Type "yes" to sign this:\n');
  if (typed === undefined) throw new KmsError("CANCELLED", "cancelled; nothing was signed");
  if (typed.trim() !== "yes") throw new KmsError("NOT_APPROVED", '"yes" was not typed; nothing was signed');
}
