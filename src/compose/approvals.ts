// Starts a node's approvals. They are loaded only if the configuration names a policy, and read again on an interval, so
// that neither requests nor Status wait for a file.
import type { Settings } from "../config/settings.js";
import { namesValue } from "../hsm/key-id.js";
import type { Log } from "../log.js";
import type { ActivationGate } from "../provider/activation-gate.js";
import { ownKeyIds } from "../provider/generations.js";
import type { Closers } from "./closers.js";

/** Starts the approvals; undefined if no policy is configured. Never throws for a policy that cannot be used. */
export async function startApprovals({
  settings,
  log,
  closers,
}: {
  readonly settings: Settings;
  readonly log: Log;
  readonly closers: Closers;
}): Promise<ActivationGate | undefined> {
  const { approvals, stateDir, refreshIntervalMs } = settings;
  if (approvals === undefined || stateDir === undefined) return undefined;
  const { NodeApprovals } = await import("../approvals/node-approvals.js");
  const { tokenNames } = await import("../config/token-names.js");
  const node = new NodeApprovals({ ...approvals, stateDir, tokens: tokenNames(settings), log });
  node.refresh();
  const timer = setInterval(() => {
    node.refresh();
  }, refreshIntervalMs);
  timer.unref();
  closers.add("approvals", () => {
    clearInterval(timer);
  });
  return {
    get problem() {
      return node.problem;
    },
    refusalOf: ({ record, activation }) =>
      node.refusalOf({ names: ownKeyIds(record).filter(namesValue), label: record.label, activation }),
  };
}
