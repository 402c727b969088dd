// What one run of `etcd recover --delete` writes to the audit log. Every line contains the run's id. The last line says how the
// run ended, and is written after the results have been printed. A run whose last line is missing, or has another outcome
// than "ok", was interrupted: the run that repeats it reports what it deleted.
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
  // Written together with the end of the run: if this run is interrupted too, the next one reports them.
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
