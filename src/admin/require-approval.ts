// Decides whether an approval permits what a command is about to do. An approval of "destroy" or "adopt" may be used again, so
// that an interrupted command can be repeated: its KEK cannot be destroyed or adopted twice. Any other is used once.
import { digestOf } from "../approvals/canonical-json.js";
import { readDocument } from "../approvals/document.js";
import { loadPolicy } from "../approvals/policy-file.js";
import type { Operation } from "../approvals/policy.js";
import { isExpired, neededFor, parseApproval, requireQuorum, type Proposal } from "../approvals/proposal.js";
import { refused } from "../approvals/refused.js";
import { useOnce } from "../approvals/used-approvals.js";
import type { Settings } from "../config/settings.js";
import { tokenNames } from "../config/token-names.js";
import { KmsError } from "../errors.js";
import { oneLine } from "../untrusted-text.js";

/** What a command is about to do. */
export interface ApprovedOperation {
  readonly operation: Exclude<Operation, "activate">;
  /** Key_ids of the KEK; empty for one that does not exist yet. */
  readonly names: readonly string[];
  /** Undefined if the operation does not depend on it. */
  readonly label?: string;
  /** The etcd key that is printed. */
  readonly object?: string;
  /** Digests of the usage reports that the command relies on. */
  readonly reports?: readonly string[];
}

/** For the audit log: the digest of the approval and who approved. */
export type ApprovalDetails = Readonly<Record<string, string>>;

/** Returns details for the audit log. @throws KmsError NOT_APPROVED, CONFIG_INVALID, STATE_UNUSABLE */
export function requireApproval(
  settings: Settings,
  file: string | undefined,
  operation: ApprovedOperation,
): ApprovalDetails {
  const { approvals, stateDir } = settings;
  if (approvals === undefined) {
    throw new KmsError("CONFIG_INVALID", "--approval: the configuration does not set approvals.policy");
  }
  const { policy } = loadPolicy({ ...approvals, stateDir });
  const needed = neededFor(policy, operation.operation);
  if (file === undefined) {
    if (needed === 0) return {};
    throw refused(
      `the policy requires ${needed} approvers for "${operation.operation}"; give their approval with --approval`,
    );
  }
  const approval = parseApproval(readDocument(file));
  const { proposal } = approval;
  if (isExpired(proposal)) throw refused(`the approval expired at ${proposal.expires}`);
  requireSame(proposal, operation, tokenNames(settings));
  const approvers = requireQuorum(policy, approval);
  if (proposal.operation === "rotate" || proposal.operation === "read") useOnce(stateDir, proposal);
  return { approval: digestOf(proposal), approvers: approvers.join(", "), proposer: proposal.proposer };
}

/** @throws KmsError NOT_APPROVED that says in what they differ */
function requireSame(proposal: Proposal, operation: ApprovedOperation, tokens: readonly string[]): void {
  const { names, label, object, reports = [] } = operation;
  if (proposal.operation !== operation.operation) {
    throw refused(`the approval is for "${proposal.operation}", not for "${operation.operation}"`);
  }
  if (!tokens.includes(proposal.token)) {
    throw refused(`the approval is for token "${oneLine(proposal.token)}"`);
  }
  if (names.length > 0 ? !names.includes(proposal.keyId ?? "") : proposal.keyId !== null) {
    throw refused(`the approval is for KEK ${proposal.keyId ?? "none"}`);
  }
  if (label !== undefined && proposal.label !== label) {
    throw refused(`the approval is for label "${oneLine(proposal.label)}", not for "${oneLine(label)}"`);
  }
  if (proposal.object !== (object ?? null)) throw refused("the approval is for another object");
  if (proposal.report !== null && !reports.includes(proposal.report)) {
    throw refused("the approval relies on another usage report");
  }
}
