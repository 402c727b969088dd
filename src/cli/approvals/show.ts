// `kms-pkcs11 approvals show`: what an approval permits, who signed it, what is missing, and until when.
import type { Command } from "commander";
import { describeProposal } from "../../approvals/describe.js";
import { readDocument } from "../../approvals/document.js";
import { readPolicy } from "../../approvals/policy-file.js";
import type { Policy } from "../../approvals/policy.js";
import { refusedOf } from "../../approvals/refused.js";
import { isExpired, isUsable, parseApproval, standingOf } from "../../approvals/proposal.js";
import { EXIT_NO } from "../exit-code.js";
import { formatJson, type OutputFormat, type Terminal } from "../output.js";
import { formatFacts } from "../table.js";
import type { ShowOutput } from "../output-schema/approvals.js";

interface ShowOptions {
  readonly policy: string;
  readonly output: OutputFormat;
}

/** Adds `approvals show`. */
export function addShowCommand(approvals: Command, terminal: Terminal): void {
  approvals
    .command("show")
    .description(
      "show what is proposed, who signed it and who is missing; exit 0 if it is approved, 1 if not",
    )
    .argument("<file>", "the approval")
    .requiredOption("--policy <file>", "the policy in force")
    .addHelpText("after", "\nExample:\n  kms-pkcs11 approvals show activate.json --policy policy.json")
    .action((file: string, _local, command: Command) => {
      show(file, command.optsWithGlobals<ShowOptions>(), terminal);
    });
}

function show(file: string, { policy: path, output }: ShowOptions, terminal: Terminal): void {
  const policy = readPolicy(path);
  const text = readDocument(file);
  const approval = refusedOf(file, () => parseApproval(text));
  const { proposal } = approval;
  const { isProposed, approvers, needed } = refusedOf(file, () => standingOf(policy, approval));
  const missing = Math.max(0, needed - approvers.length);
  const isApproved = isProposed && missing === 0 && isUsable(proposal);
  const shown: ShowOutput = {
    proposal,
    isProposed,
    approvers: [...approvers],
    needed,
    missing,
    isExpired: isExpired(proposal),
    isApproved,
  };
  if (output === "json") terminal.out(formatJson(shown));
  else terminal.out(tableOf(shown, policy));
  if (!isApproved) process.exitCode = EXIT_NO;
}

function verdictOf({ proposal, isApproved, isExpired }: ShowOutput): string {
  if (isApproved) return "approved";
  if (proposal.operation === "activate" && !isUsable(proposal)) return "expires before the activation";
  return isExpired ? "expired" : "not approved yet";
}

function tableOf(shown: ShowOutput, { people }: Policy): string {
  const { proposal, isProposed, approvers, needed, missing } = shown;
  const others = people
    .filter(({ name, approves }) => approves && name !== proposal.proposer && !approvers.includes(name))
    .map(({ name }) => name);
  const rows = [
    ...describeProposal(proposal),
    ["proposer signed", isProposed ? "yes" : "no"],
    ["approved by", `${approvers.length} of ${needed}: ${approvers.join(", ")}`],
    ...(missing === 0 ? [] : [["missing", `${missing} of ${others.join(", ")}`]]),
    ["verdict", verdictOf(shown)],
  ];
  return formatFacts(rows);
}
