// Starts a node's approvals. They are loaded only if the configuration names a policy, and read again on an interval, so
// that neither requests nor Status wait for a file.
import type { Settings } from "../config/settings.js";
import { namesValue } from "../hsm/key-id.js";
import type { KekRecord } from "../hsm/port.js";
import type { Log } from "../log.js";
import type { ActivationGate } from "../provider/active-key.js";
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
      node.refusalOf({ names: namesOf(record), label: record.label, activation }),
  };
}

/**
 * Returns the key_ids that name the KEK's value. The aliases of a KEK of two keys name one key each, which somebody may
 * have combined with another.
 */
function namesOf({ keyId, aliases, kind }: KekRecord): string[] {
  return (kind === "aes+hmac" ? [keyId] : [keyId, ...aliases]).filter(namesValue);
}
