// Asks for the approval of an operation, if the configuration names a policy. Without one, no code of approvals is loaded.
import type { Settings } from "../config/settings.js";
import type { ApprovalDetails, ApprovedOperation } from "./require-approval.js";

export type { ApprovalDetails } from "./require-approval.js";

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
