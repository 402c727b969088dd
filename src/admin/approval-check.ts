// Asks for the approval of an operation, if the configuration names a policy. Without one, no code of approvals is loaded.
import type { Operation } from "../approvals/policy.js";
import type { Settings } from "../config/settings.js";

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

/**
 * Requires the approval of an operation, immediately before it is recorded and made.
 * @throws KmsError NOT_APPROVED, CONFIG_INVALID, STATE_UNUSABLE
 */
export type ApprovalCheck = (operation: ApprovedOperation) => Promise<ApprovalDetails>;

/** Returns the check for a command. @param file value of --approval */
export function approvalCheck(settings: Settings, file: string | undefined): ApprovalCheck {
  if (settings.approvals === undefined && file === undefined) return () => Promise.resolve({});
  return async (operation) => {
    const { requireApproval } = await import("./require-approval.js");
    return requireApproval(settings, file, operation);
  };
}
