// What a verification finds in a log of six lines that somebody has changed.

import { createSecretKey } from "node:crypto";
import { appendFileSync, readdirSync, readFileSync, statSync, unlinkSync } from "node:fs";
import { join } from "node:path";

import { beforeEach, expect, it } from "vitest";

import { verifyLine, makeLine } from "../../src/audit/line.js";
import { requestOf, useAuditFiles } from "../support/audit-files.js";

const log = useAuditFiles();

beforeEach(async () => {
  await log.append(log.writer(), 0, 6);
});

it("an untouched log has no problems, and its files are for their owner alone", async () => {
  const report = await log.verify();
  expect(report).toMatchObject({
    lines: 6,
    first: { seq: 1 },
    last: { seq: 6 },
    problems: [],
    remarks: [],
  });
  expect([log.file, log.keyFile, `${log.keyFile}.head`].map((path) => statSync(path).mode & 0o777)).toEqual([
    0o600, 0o600, 0o600,
  ]);
  expect(readdirSync(join(log.folder, "log"))).toEqual(["audit.log"]);
});

it.each([0, 1, 2, 3, 4, 5])("audit verify finds a change of line %i in that line", async (at) => {
  log.rewrite(
    log
      .lines()
      .map((line, index) => (index === at ? line.replace('"outcome":"OK"', '"outcome":"KO"') : line)),
  );
  expect((await log.problems())[0]).toBe(`${at + 1}: was changed, or written with another key`);
});

it.each([1, 2, 3, 4])("audit verify finds the removal of line %i at the next line", async (at) => {
  log.rewrite(log.lines().filter((_line, index) => index !== at));
  expect(await log.problems()).toEqual([`${at + 1}: 1 line is missing before it (number ${at + 2})`]);
});

it("audit verify finds lines that were swapped, repeated, or removed at either end", async () => {
  const written = log.lines();
  const [one = "", two = "", three = "", ...rest] = written;
  log.rewrite([one, three, two, ...rest]);
  expect((await log.problems()).join()).toMatch(/2: 1 line is missing.*3: number 2 follows number 3/);
  log.rewrite([one, two, two, three, ...rest]);
  expect(await log.problems()).toEqual(["3: number 2 follows number 2: moved or repeated"]);
  log.rewrite(written.slice(0, -2));
  expect(await log.problems()).toEqual(["0: ends at number 4, but 6 was written: its end was removed"]);
  log.rewrite(written.slice(2));
  expect(await log.problems()).toEqual(["0: begins at number 3 instead of 1: its beginning was removed"]);
});

it("audit verify finds a removed end although the log was continued since", async () => {
  log.rewrite(log.lines().slice(0, -2));
  await log.append(log.writer(), 6, 2);
  expect(await log.problems()).toEqual(["5: a new chain begins here: 2 lines before it were removed"]);
  unlinkSync(log.file);
  await log.append(log.writer(), 8, 1);
  expect((await log.problems()).join()).toMatch(/its beginning was removed/);
});

it("audit verify finds a line that was made with another key, as does the next writer", async () => {
  const last = verifyLine(
    Buffer.from(log.lines().at(-1) ?? ""),
    createSecretKey(Buffer.from(readFileSync(log.keyFile, "utf8").trim(), "hex")),
  );
  const forged = makeLine(
    { time: 0, event: requestOf("x") },
    { seq: 6, mac: last?.mac ?? "" },
    createSecretKey(Buffer.alloc(32)),
  );
  appendFileSync(log.file, `${forged.text}\n`);
  await log.append(log.writer(), 0, 1);
  expect(await log.problems()).toEqual([
    "7: was changed, or written with another key",
    "8: a new chain begins here: the line before does not verify",
  ]);
});

it("audit verify remarks that without a head a removed end cannot be detected", async () => {
  log.rewrite(log.lines().slice(0, -2));
  unlinkSync(`${log.keyFile}.head`);
  expect(await log.verify()).toMatchObject({
    problems: [],
    remarks: [{ problem: expect.stringContaining("its head is missing") as string }],
  });
});
