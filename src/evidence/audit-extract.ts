// What an auditor needs from the audit log: the lines about people, keys and the log itself, unchanged, and counts of the
// requests. They are taken while the log is verified, so that the report of the verification is about the same lines.
import { verifyAudit, type AuditReport } from "../audit/verify.js";

/** The extract of one audit log. */
export interface AuditExtract {
  /** Lines of every event but requests, as the log has them. */
  readonly events: readonly string[];
  /** Number of later events that were left out, since there are too many. */
  readonly omitted: number;
  /** Requests by month (UTC), operation, key_id and outcome. */
  readonly requests: readonly RequestCount[];
}

export interface RequestCount {
  readonly month: string;
  readonly operation: string;
  readonly keyId: string;
  readonly outcome: string;
  readonly count: number;
}

const MAX_EVENTS = 20_000;
const MAX_COUNTS = 5_000;

/**
 * Verifies an audit log and extracts the lines whose MAC verifies.
 * @throws as `verifyAudit`
 */
export async function extractAudit(log: {
  readonly file: string;
  readonly keyFile: string;
}): Promise<{ readonly report: AuditReport; readonly extract: AuditExtract }> {
  const events: string[] = [];
  const counts = new Map<string, number>();
  let omitted = 0;
  const report = await verifyAudit(log, {
    onLine: ({ fields }, bytes) => {
      if (fields["event"] === "request") count(counts, fields);
      else if (events.length < MAX_EVENTS) events.push(bytes.toString("utf8"));
      else omitted += 1;
    },
  });
  return { report, extract: { events, omitted, requests: [...counts].map(requestCount) } };
}

function count(counts: Map<string, number>, fields: Readonly<Record<string, unknown>>): void {
  const { time, operation, keyId, outcome } = fields;
  const key = JSON.stringify([String(time).slice(0, 7), operation, keyId ?? "", outcome]);
  const isKnown = counts.has(key) || counts.size < MAX_COUNTS;
  const counted = isKnown ? key : JSON.stringify([String(time).slice(0, 7), operation, "others", "others"]);
  counts.set(counted, (counts.get(counted) ?? 0) + 1);
}

function requestCount([key, number]: [string, number]): RequestCount {
  const [month = "", operation = "", keyId = "", outcome = ""] = JSON.parse(key) as string[];
  return { month, operation, keyId, outcome, count: number };
}
