// `kms-pkcs11 approvals sign`: shows an approver what is proposed and adds the approver's signature.
import type { Command } from "commander";
import { readPolicy } from "../../approvals/policy-file.js";
import type { Policy } from "../../approvals/policy.js";
import {
  formatApproval,
  parseApproval,
  requireInstantCovered,
  requireUnexpired,
  standingOf,
  type Approval,
} from "../../approvals/proposal.js";
import { refusedOf } from "../../approvals/refused.js";
import { readForChange, replaceDocument } from "../../approvals/write-document.js";
import { printResult } from "../next-step.js";
import type { Terminal } from "../output.js";
import { addSigningOptions, signProposal, type SigningOptions } from "./signing.js";
import type { SignOutput } from "../output-schema/approvals.js";

interface SignOptions extends SigningOptions {
  readonly policy: string;
}

const HELP = `
Compare the key_id and the instant with 'keys list --nodes' before you sign. The file does not change if the signature would not
count: because the key is not in the policy, the person's signatures have stopped counting, or the person has signed already.

Example:
  kms-pkcs11 approvals sign activate.json --policy policy.json --identity ~/.ssh/id_ed25519_sk`;

/** Returns an approval that another signature can complete. @throws KmsError NOT_APPROVED */
function requireSignable(policy: Policy, text: string): Approval {
  const approval = parseApproval(text);
  requireUnexpired(approval.proposal);
  requireInstantCovered(approval.proposal);
  standingOf(policy, approval);
  return approval;
}

/** Adds `approvals sign`. */
export function addSignCommand(approvals: Command, terminal: Terminal): void {
  addSigningOptions(approvals.command("sign"))
    .description("show what is proposed and sign it with ssh-keygen")
    .argument("<file>", "the approval; the signature is added to it")
    .requiredOption("--policy <file>", "the policy in force")
    .addHelpText("after", HELP)
    .action(async (file: string, _local, command: Command) => {
      const options = command.optsWithGlobals<SignOptions>();
      const policy = readPolicy(options.policy);
      const before = readForChange(file);
      const approval = refusedOf(file, () => requireSignable(policy, before.text));
      const signed = await signProposal(approval, options, terminal);
      const { approvers, needed } = standingOf(policy, signed);
      replaceDocument(before, formatApproval(signed));
      const text = `signed: ${approvers.length} of ${needed} approvers (${approvers.join(", ")})`;
      const shown = {
        json: { file, approvers, needed } satisfies Omit<SignOutput, "next">,
        text,
        change: { did: "sign a proposal" } as const,
      };
      printResult(shown, options.output, terminal);
    });
}
