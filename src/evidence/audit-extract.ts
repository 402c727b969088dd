// What an auditor needs of the audit log: the lines about people, keys and the log itself, as they are, and counts of the
// requests. The caller verifies the chain; only lines whose MAC verifies are extracted.
import type { KeyObject } from "node:crypto";
import { createReadStream } from "node:fs";
import { splitLines } from "../audit/chain-tail.js";
import { openLine } from "../audit/line.js";

/** The extract of one audit log. */
export interface AuditExtract {
  /** Lines of every event but requests, as the log has them. */
  readonly events: readonly string[];
  /** Events that were left out, since there are too many. */
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
const NEWLINE = 0x0a;
const MAX_LINE_BYTES = 64 * 1024;

/** Returns the extract of the log's files, the oldest first. @throws NodeJS.ErrnoException */
export async function extractAudit(files: readonly string[], key: KeyObject): Promise<AuditExtract> {
  const events: string[] = [];
  const counts = new Map<string, number>();
  let omitted = 0;
  for (const file of files) {
    for await (const bytes of linesOf(file)) {
      const fields = openLine(bytes, key)?.fields;
      if (fields === undefined) continue;
      if (fields["event"] === "request") count(counts, fields);
      else if (events.length < MAX_EVENTS) events.push(bytes.toString("utf8"));
      else omitted += 1;
    }
  }
  return { events, omitted, requests: [...counts].map(requestCount) };
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

async function* linesOf(file: string): AsyncGenerator<Buffer> {
  let rest = Buffer.alloc(0);
  for await (const chunk of createReadStream(file)) {
    const bytes = Buffer.concat([rest, chunk as Buffer]);
    const lines = splitLines(bytes.subarray(0, bytes.lastIndexOf(NEWLINE) + 1));
    yield* lines.filter(({ length }) => length > 0);
    rest = bytes.subarray(bytes.lastIndexOf(NEWLINE) + 1);
    // Longer than any line of an audit log.
    if (rest.length > MAX_LINE_BYTES) rest = Buffer.alloc(0);
  }
}
