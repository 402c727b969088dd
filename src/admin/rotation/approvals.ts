// Chooses, among several approvals, the one for the operation that a rotation is about to make.
import type { Settings } from "../../config/settings.js";
import { approvalCheck, type ApprovalCheck } from "../approval-check.js";
import type { ApprovedOperation } from "../require-approval.js";

/**
 * Returns the check of a command that several approvals were given to.
 * @param files values of --approval
 */
export function approvalAmong(settings: Settings, files: readonly string[]): ApprovalCheck {
  return async (operation) => approvalCheck(settings, await fileFor(operation, files))(operation);
}

/** Returns the first file whose proposal fits; without one, the first file, whose refusal says in what it differs. */
async function fileFor(
  { operation, names, label }: ApprovedOperation,
  files: readonly string[],
): Promise<string | undefined> {
  if (files.length < 2) return files[0];
  const [{ readDocument }, { parseApproval }] = await Promise.all([
    import("../../approvals/document.js"),
    import("../../approvals/proposal.js"),
  ]);
  const fitting = files.find((file) => {
    const { proposal } = parseApproval(readDocument(file));
    const isNamed = names.length === 0 || names.includes(proposal.keyId ?? "");
    return proposal.operation === operation && isNamed && (label === undefined || label === proposal.label);
  });
  return fitting ?? files[0];
}
