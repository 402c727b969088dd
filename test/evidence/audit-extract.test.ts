// What an auditor gets of an audit log: the lines that verify and counts of requests, whatever happens to the log meanwhile.

import { expect, it } from "vitest";

import type { AuditEvent } from "../../src/audit/line.js";
import { extractAudit } from "../../src/evidence/audit-extract.js";
import { useAuditFiles } from "../support/audit-files.js";

const log = useAuditFiles();
const CHANGE: AuditEvent = {
  event: "operator",
  operation: "keys rotate",
  outcome: "ok",
  operator: { uid: 0 },
};
/** A few changes fill a file. */
const SMALL = 600;

const change = (writer = log.writer(SMALL, 50)) => writer.append([{ time: 0, event: CHANGE }]);
const seqsOf = (events: readonly string[]) => events.map((line) => (JSON.parse(line) as { seq: number }).seq);

it("the extract holds the lines that its verification counts, even if the log is rotated", async () => {
  const writer = log.writer(SMALL, 50);
  for (let at = 0; at < 4; at++) await change(writer);
  const extracting = extractAudit(log);
  for (let at = 0; at < 6; at++) await change(writer);
  const { report, extract } = await extracting;
  expect(log.rotatedNames().length).toBeGreaterThan(2);
  expect(report.lines).toBeGreaterThanOrEqual(4);
  expect(seqsOf(extract.events)).toEqual(Array.from({ length: report.lines }, (_, at) => at + 1));
});

it("the extract counts requests, and has no line that does not verify", async () => {
  await change();
  await log.append(log.writer(), 0, 3);
  const [first = "", ...requests] = log.lines();
  log.rewrite([first, first.replace("keys rotate", "keys create"), ...requests]);
  const { report, extract } = await extractAudit(log);
  expect(report.problems.length).toBeGreaterThan(0);
  expect(extract).toEqual({
    events: [first],
    omitted: 0,
    requests: [{ month: "2026-01", operation: "Decrypt", keyId: "k", outcome: "OK", count: 3 }],
  });
});
