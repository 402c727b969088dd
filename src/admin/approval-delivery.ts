// Stores the approval of a KEK in a node's state directory, after the checks that the node itself makes.
import { digestOf } from "../approvals/canonical-json.js";
import { approvalPath, requireActivation } from "../approvals/node-approvals.js";
import { loadPolicy } from "../approvals/policy-file.js";
import type { Approval } from "../approvals/proposal.js";
import type { Settings } from "../config/settings.js";
import { tokenNames } from "../config/token-names.js";
import { KmsError } from "../errors.js";
import { saveState } from "../files/state-file.js";

export interface Delivered {
  readonly keyId: string | null;
  readonly approvers: readonly string[];
  /** Digest of the proposal. */
  readonly digest: string;
}

/** @throws KmsError NOT_APPROVED, CONFIG_INVALID, STATE_UNUSABLE */
export function deliverApproval(settings: Settings, approval: Approval): Delivered {
  const { approvals, stateDir } = settings;
  if (approvals === undefined || stateDir === undefined) {
    const text = "the configuration does not set approvals.policy, approvals.root and stateDir";
    throw new KmsError("CONFIG_INVALID", text);
  }
  const { policy } = loadPolicy({ ...approvals, stateDir });
  const approvers = requireActivation(policy, approval, tokenNames(settings));
  const digest = digestOf(approval.proposal);
  saveState(approvalPath(stateDir, digest), approval);
  return { keyId: approval.proposal.keyId, approvers, digest };
}
