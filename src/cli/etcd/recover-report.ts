// What `etcd recover` prints for people.
import type { Finding, Found } from "../../admin/recover/find-unreadable.js";
import { oneLine } from "../../untrusted-text.js";
import { formatTable } from "../table.js";

/** More are in the JSON output. */
const MAX_ROWS = 100;

/** Returns the objects as a table, the reasons, and the counts. */
export function describeFound({ objects, unreadable, findings, foreign, nodes, seconds }: Found): string {
  const shown = findings.slice(0, MAX_ROWS);
  const more = unreadable - shown.length;
  const table = formatTable(
    ["OBJECT", "REVISION", "CAUSE", "KEY_ID"],
    shown.map(({ key, modRevision, cause, keyId }) => [key, String(modRevision), cause, keyId ?? ""]),
  );
  const silent = nodes.filter(({ error }) => error !== null);
  return [
    ...(shown.length > 0 ? [table] : []),
    ...(more > 0 ? [`and ${more} more; --output json lists up to 10,000`] : []),
    ...(shown.length > 0 ? ["", ...reasonsOf(findings), ""] : []),
    ...foreign.map(
      (one) => `not checked: ${one.objects} under ${oneLine(one.provider)}, such as ${oneLine(one.example)}`,
    ),
    ...silent.map(({ error }) => `warning: a node did not say which KEKs it knows: ${oneLine(error ?? "")}`),
    `${objects} objects, ${seconds} s`,
    unreadable === 0
      ? "every object under KMS v2 can be decrypted with this HSM"
      : `${unreadable} objects cannot be decrypted`,
  ].join("\n");
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
