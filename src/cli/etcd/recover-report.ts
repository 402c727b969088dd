// What `etcd recover` prints for people.
import type { Deletion } from "../../admin/recover/deletion.js";
import type { Finding, Found } from "../../admin/recover/find-unreadable.js";
import { oneLine } from "../../untrusted-text.js";
import type { EtcdRecoverOutput } from "../output-schema/etcd-recover.js";
import { formatTable } from "../table.js";

/** Where a run is recorded. */
type AuditPlace = NonNullable<EtcdRecoverOutput["deletion"]>["audit"];

/** More are in the JSON output. */
const MAX_ROWS = 100;

/** Returns the objects as a table, the reasons, and the counts. */
export function describeFound(found: Found): string {
  const { objects, unreadable, findings, foreign, nodes, unproven, seconds } = found;
  const silent = nodes.filter(({ error }) => error !== null);
  return [
    ...(findings.length > 0 ? [findingsTable(findings, unreadable), "", ...reasonsOf(findings), ""] : []),
    ...foreign.map(
      (one) => `not checked: ${one.objects} under ${oneLine(one.provider)}, such as ${oneLine(one.example)}`,
    ),
    ...silent.map(({ error }) => `warning: a node did not say which KEKs it knows: ${oneLine(error ?? "")}`),
    ...unproven.map(({ reason, isNeeded }) =>
      oneLine(isNeeded ? `warning: ${reason}` : `note: ${reason}; no stored object names it`),
    ),
    `${objects} objects, ${seconds} s`,
    unreadable === 0
      ? "every object under KMS v2 can be decrypted with this HSM"
      : `${unreadable} ${unreadable === 1 ? "object" : "objects"} cannot be decrypted`,
  ].join("\n");
}

/** Returns the first objects as a table. @param all the number of objects, of which the findings may be the first */
export function findingsTable(findings: readonly Finding[], all = findings.length): string {
  const shown = findings.slice(0, MAX_ROWS);
  const table = formatTable(
    ["OBJECT", "REVISION", "CAUSE", "KEY_ID"],
    shown.map(({ key, modRevision, cause, keyId }) => [key, String(modRevision), cause, keyId ?? ""]),
  );
  const more = all - shown.length;
  return more > 0 ? `${table}\nand ${more} more; --output json lists up to 10,000` : table;
}

/** Returns each reason once, with the number of objects. */
function reasonsOf(findings: readonly Finding[]): string[] {
  const counts = new Map<string, number>();
  for (const { cause, reason } of findings) {
    const line = `${cause}: ${oneLine(reason)}`;
    counts.set(line, (counts.get(line) ?? 0) + 1);
  }
  return [...counts].map(([line, count]) => `${count} ${line}`);
}

/**
 * Returns the outcome for each object, the backup, where the run is recorded, and whether the resources can be listed.
 * @param audit null if there is no audit log, or no run
 */
export function describeDeletion(found: Found, deletion: Deletion, audit: AuditPlace): string {
  const { run, backup, results, lists } = deletion;
  if (found.unreadable === 0 && results.length === 0) return describeFound(found);
  const rows = results.slice(0, MAX_ROWS).map(({ key, outcome, reason }) => [key, outcome, reason ?? ""]);
  const left = leftAfter(found, deletion);
  const deleted = results.filter(({ outcome }) => outcome === "deleted").length;
  return [
    ...(rows.length > 0 ? [formatTable(["OBJECT", "OUTCOME", "REASON"], rows), ""] : []),
    ...(backup === null
      ? []
      : [`backup ${oneLine(backup.file)}, written at ${backup.writtenAt}, sha256:${backup.sha256}`]),
    ...(audit === null ? [] : [`recorded as run ${run} in ${oneLine(audit.file)} on ${audit.host}`]),
    ...lists.map(({ resource, error }) =>
      error === null ? `LIST of ${resource} works` : `LIST of ${resource} fails: ${oneLine(error)}`,
    ),
    left === 0
      ? `${deleted} deleted; no object is left that cannot be decrypted`
      : `${left} ${left === 1 ? "object" : "objects"} that cannot be decrypted ${left === 1 ? "is" : "are"} left`,
  ].join("\n");
}

/** Returns how many of the objects that were found are still there and cannot be decrypted. */
export function leftAfter({ unreadable, findings }: Found, { results }: Deletion): number {
  const settled = ["deleted", "gone", "changed"];
  const found = new Set(findings.map(({ key }) => key));
  return (
    unreadable - results.filter(({ key, outcome }) => found.has(key) && settled.includes(outcome)).length
  );
}
