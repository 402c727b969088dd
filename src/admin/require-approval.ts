// Decides whether an approval permits what a command is about to do. An approval of "destroy", "adopt", "recover" or "renew" may
// be used again, so that an interrupted command can be repeated: the same KEK cannot be destroyed or adopted twice, the same
// revision of an object be deleted twice, nor the same epoch be renewed twice. Any other is used once.
import { digestOf } from "../approvals/canonical-json.js";
import { readDocument } from "../approvals/document.js";
import { loadPolicy } from "../approvals/policy-file.js";
import type { Operation } from "../approvals/policy.js";
import {
  neededFor,
  parseApproval,
  requireQuorum,
  requireUnexpired,
  type Proposal,
} from "../approvals/proposal.js";
import { refused, refusedOf } from "../approvals/refused.js";
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
  /** Digests of the usage reports, or of the list of objects, that the command relies on. */
  readonly reports?: readonly string[];
}

/** For the audit log: the digest of the approval and who approved. */
export type ApprovalDetails = Readonly<Record<string, string>>;

/** Returns details for the audit log. @throws KmsError NOT_APPROVED, CONFIG_INVALID, STATE_UNUSABLE */
export async function requireApproval(
  settings: Settings,
  file: string | undefined,
  operation: ApprovedOperation,
): Promise<ApprovalDetails> {
  const given = requireGiven(settings, file, operation.operation);
  if (given === undefined) return {};
  const { proposal, approvers } = given;
  requireSame(proposal, operation, tokenNames(settings));
  if (proposal.operation === "rotate" || proposal.operation === "read") {
    await useOnce(settings.stateDir, proposal);
  }
  return { approval: digestOf(proposal), approvers: approvers.join(", "), proposer: proposal.proposer };
}

/**
 * Requires an approval of an operation, whatever its KEK: for commands that refuse before they open a token.
 * @returns undefined if none is required and none is given
 * @throws KmsError NOT_APPROVED, CONFIG_INVALID, STATE_UNUSABLE
 */
export function requireGiven(
  { approvals, stateDir }: Settings,
  file: string | undefined,
  operation: ApprovedOperation["operation"],
): { readonly proposal: Proposal; readonly approvers: readonly string[] } | undefined {
  if (approvals === undefined) {
    if (file === undefined) return undefined;
    throw new KmsError("CONFIG_INVALID", "--approval: the configuration does not set approvals.policy");
  }
  const { policy } = loadPolicy({ ...approvals, stateDir });
  const needed = neededFor(policy, operation);
  if (file === undefined) {
    if (needed === 0) return undefined;
    throw refused(`the policy requires ${needed} approvers for "${operation}"; ${HOW_TO_PROPOSE[operation]}`);
  }
  const text = readDocument(file);
  return refusedOf(file, () => {
    const approval = parseApproval(text);
    const { proposal } = approval;
    requireUnexpired(proposal);
    requireOperation(proposal, operation);
    return { proposal, approvers: requireQuorum(policy, approval) };
  });
}

const THEN = "have it signed, and give the file with --approval";
const HOW_TO_PROPOSE: Record<ApprovedOperation["operation"], string> = {
  rotate:
    "'keys rotate --dry-run --activate-at TIME' prints the label; propose it with 'approvals propose --operation rotate', " +
    `${THEN} and the same --activate-at`,
  destroy: `propose it with 'approvals propose --operation destroy' and key_id and label from 'keys list', ${THEN}`,
  adopt: `propose it with 'approvals propose --operation adopt' and key_id and label from 'keys list', ${THEN}`,
  read: `propose it with 'approvals propose --operation read --object KEY' and key_id and label of its KEK, ${THEN}`,
  recover: `write the list with 'etcd recover -o json', propose it with 'approvals propose --operation recover --list FILE --label "N objects"', ${THEN} and the list with --only`,
  renew: `propose it with 'approvals propose --operation renew' and the label "set ..., epoch ..." of 'custody test', ${THEN}`,
};

function requireOperation({ operation }: Proposal, wanted: Operation): void {
  if (operation !== wanted) throw refused(`the approval is for "${operation}", not for "${wanted}"`);
}

/** @throws KmsError NOT_APPROVED that says in what they differ */
function requireSame(proposal: Proposal, operation: ApprovedOperation, tokens: readonly string[]): void {
  const { names, label, object, reports = [] } = operation;
  if (!tokens.includes(proposal.token)) {
    throw refused(`the approval is for token "${oneLine(proposal.token)}"`);
  }
  if (names.length > 0 ? !names.includes(proposal.keyId ?? "") : proposal.keyId !== null) {
    throw refused(`the approval is for KEK ${proposal.keyId ?? "none"}`);
  }
  if (label !== undefined && proposal.label !== label) {
    throw refused(`the approval is for label "${oneLine(proposal.label)}", not for "${oneLine(label)}"`);
  }
  if (proposal.object !== (object ?? null)) {
    throw refused(`the approval is for ${nameObject(proposal.object)}, not for ${nameObject(object)}`);
  }
  if (proposal.report !== null && !reports.includes(proposal.report)) {
    throw refused(otherReport(operation, proposal.report));
  }
}

function nameObject(object: string | null | undefined): string {
  return object === null || object === undefined ? "no object" : `object "${oneLine(object)}"`;
}

/** Names files by the SHA-256 of their bytes, as the approval does. */
function otherReport({ operation, reports = [] }: ApprovedOperation, approved: string): string {
  const [given] = reports;
  const [file, option] =
    operation === "recover" ? ["list of objects", "--only"] : ["usage report", "--usage-report"];
  const instead = given === undefined ? "" : ` instead of ${given}`;
  return `the approval relies on another ${file}; give ${approved} with ${option}${instead}`;
}
