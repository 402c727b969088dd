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

/**
 * Refuses an operation for lack of an approval before a token is opened or a PIN is asked for. What the approval says about
 * the KEK is checked later.
 * @throws KmsError NOT_APPROVED, CONFIG_INVALID, STATE_UNUSABLE
 */
export async function requireApprovalEarly(
  settings: Settings,
  file: string | undefined,
  operation: ApprovedOperation["operation"],
): Promise<void> {
  if (settings.approvals === undefined && file === undefined) return;
  const { requireGiven } = await import("./require-approval.js");
  requireGiven(settings, file, operation);
}

/** Returns what a new KEK needs before the nodes activate it, in one line; undefined if nothing. Never throws. */
export async function activationAdvice(
  settings: Settings,
  { keyId, label }: { readonly keyId: string; readonly label: string },
): Promise<string | undefined> {
  if (settings.approvals === undefined) return undefined;
  const { activationApprovers } = await import("./approval-view.js");
  const needed = activationApprovers(settings);
  if (needed === 0) return undefined;
  return (
    `no node uses it until ${needed} people have approved its activation: 'kms-pkcs11 approvals propose FILE ` +
    `--operation activate --kek ${keyId} --label ${label} ...', 'approvals sign', then 'approvals deliver' on every node`
  );
}
