// What the policy and the approvals in the state directory of this machine say about each KEK, for commands that list them.
import { NodeApprovals } from "../approvals/node-approvals.js";
import { loadPolicy } from "../approvals/policy-file.js";
import { neededFor } from "../approvals/proposal.js";
import type { Settings } from "../config/settings.js";
import { tokenNames } from "../config/token-names.js";
import { namesValue } from "../hsm/key-id.js";
import type { KekRecord } from "../hsm/port.js";
import { SILENT } from "./command-tokens.js";
import { ownKeyIds } from "../provider/generations.js";

/** Returns why a KEK must not become active on this machine's node; undefined if it may. */
export type ApprovalView = (record: KekRecord, activation: number) => string | undefined;

/** Returns the decisions of this machine's node; undefined if no policy is configured. Never throws. */
export function approvalView(settings: Settings): ApprovalView | undefined {
  const { approvals, stateDir } = settings;
  if (approvals === undefined || stateDir === undefined) return undefined;
  const node = new NodeApprovals({ ...approvals, stateDir, tokens: tokenNames(settings), log: SILENT });
  node.refresh();
  return (record, activation) =>
    node.refusalOf({ names: ownKeyIds(record).filter(namesValue), label: record.label, activation });
}

/** Returns how many people have to approve an activation; 0 if none, or if the policy cannot be read. Never throws. */
export function activationApprovers({ approvals, stateDir }: Settings): number {
  if (approvals === undefined) return 0;
  try {
    return neededFor(loadPolicy({ ...approvals, stateDir }).policy, "activate");
  } catch {
    return 0;
  }
}
