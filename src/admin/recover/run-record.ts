// What one run of `etcd recover --delete` leaves in the audit log. Every line of it has the run's id; the last one says how it
// ended, and is written when the operator has been shown the results. Without it, or with another outcome than "ok", the run was
// interrupted, and what it deleted counts for the run that repeats it.
import { randomBytes } from "node:crypto";
import type { Settings } from "../../config/settings.js";
import { recordOperatorEvents } from "../operator-audit.js";
import type { Operator } from "../operator.js";
import type { Deletion } from "./deletion.js";
import { DONE, GONE, OPERATION } from "./recorded-deletions.js";

export function newRunId(): string {
  return randomBytes(8).toString("hex");
}

/**
 * Records the end of a run, if it has deleted something or reported what an earlier one had deleted. Never throws.
 * @param left how many of the objects that were found are still there and cannot be decrypted
 */
export async function recordRunEnd(
  { run, backup, results, earlier, lists, failure }: Deletion,
  left: number,
  { settings, operator }: { readonly settings: Settings; readonly operator: Operator },
): Promise<void> {
  if (run === null) return;
  const outcome = failure?.code ?? (lists.every(({ error }) => error === null) ? DONE : "list-failed");
  const gone = earlier.filter((one) => one.outcome === GONE);
  const deleted = results.filter((one) => one.outcome === "deleted").length;
  const end = {
    run,
    end: true,
    ...{ deleted, gone: results.filter((one) => one.outcome === GONE).length, left },
    ...(backup !== null && { backup: backup.sha256 }),
  };
  // Together with the end: a run that does not come to it leaves them to the next one.
  const taken = outcome === DONE ? gone : [];
  await recordOperatorEvents(settings, operator, [
    ...taken.map(({ key, modRevision }) => ({
      operation: OPERATION,
      outcome: GONE,
      details: { key, modRevision, run },
    })),
    { operation: OPERATION, outcome, details: end },
  ]);
}
