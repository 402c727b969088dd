// Which lines of an audit log are read for one operation: those that verify, whatever else the log holds, and not those of files
// that were written last before a time.

import { appendFileSync, rmSync, utimesSync } from "node:fs";

import { expect, it } from "vitest";

import type { AuditEvent } from "../../src/audit/line.js";
import { readRecentLines } from "../../src/audit/recent-lines.js";
import { rotatedFiles } from "../../src/audit/rotated-files.js";
import { requestOf, useAuditFiles } from "../support/audit-files.js";

const log = useAuditFiles();
const OPERATION = "etcd recover";

const eventOf = (name: string, operation = OPERATION): AuditEvent => ({
  event: "operator",
  operation,
  outcome: name,
  operator: {},
});

async function append(events: readonly AuditEvent[], maxBytes = 1e9): Promise<void> {
  const writer = log.writer(maxBytes);
  for (const event of events) await writer.append([{ time: Date.UTC(2026, 0, 1), event }]);
}

async function read(since = 0): Promise<{ outcomes: unknown[]; beginsAt: string | undefined }> {
  const outcomes: unknown[] = [];
  const { beginsAt } = await readRecentLines(log, { operation: OPERATION, since }, ({ fields }) => {
    outcomes.push(fields["outcome"]);
  });
  return { outcomes, beginsAt };
}

it("lines of the operation are read in order, across rotated files and between others", async () => {
  const noise = { ...requestOf("u"), userAgent: `"operation":"${OPERATION}"` } as AuditEvent;
  await append([noise, eventOf("one"), noise, eventOf("two", "keys destroy"), eventOf("three"), noise], 600);
  expect((await rotatedFiles(log.file)).length).toBeGreaterThan(1);
  expect(await read()).toEqual({ outcomes: ["one", "three"], beginsAt: undefined });
});

it("lines are found wherever they lie in a log that is longer than what is read at a time", async () => {
  const writer = log.writer(1e9);
  const wanted: string[] = [];
  for (let batch = 0; batch < 40; batch++) {
    const many = Array.from({ length: 400 }, (_, at) => requestOf(`${batch}-${at}`.repeat(1 + (at % 7))));
    const events = [...many, eventOf(String(batch))];
    wanted.push(String(batch));
    await writer.append(events.map((event) => ({ time: Date.now(), event })));
  }
  expect((await read()).outcomes).toEqual(wanted);
});

it("an incomplete last line, a changed line and text longer than any line are left out", async () => {
  await append([eventOf("one"), eventOf("two")]);
  const [line = ""] = log.lines();
  appendFileSync(log.file, `${line.replace("one", "six")}\n`);
  appendFileSync(log.file, `${line}${"x".repeat(3 << 20)}${line}\n${line}\n`);
  appendFileSync(log.file, line);
  expect((await read()).outcomes).toEqual(["one", "two", "one"]);
});

it("a log whose older lines were removed says when it begins, if they may be recent", async () => {
  await append([requestOf("1"), requestOf("2"), requestOf("3"), eventOf("one")], 300);
  const [oldest, second] = await rotatedFiles(log.file);
  rmSync(oldest?.path ?? "");
  const { time } = JSON.parse(log.lines(second?.path)[0] ?? "") as { time: string };
  expect((await read()).beginsAt).toBe(time);
  expect((await read(Date.parse(time))).beginsAt).toBeUndefined();
});

it("files that were written last before the time are not read", async () => {
  await append([eventOf("one"), requestOf("1"), eventOf("two")], 300);
  for (const { path } of await rotatedFiles(log.file)) utimesSync(path, 1_000, 1_000);
  expect((await read(2_000_000)).outcomes).toEqual(["two"]);
});
