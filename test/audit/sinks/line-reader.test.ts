// Reading an audit log from a position on, whatever happened to its files since: rotation, removal, a torn last line, a batch
// that a full disk undid, a copy, a replacement, foreign bytes.

import {
  appendFileSync,
  copyFileSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";

import { expect, it } from "vitest";

import { readLinesAfter, type Batch } from "../../../src/audit/sinks/line-reader.js";
import type { Position } from "../../../src/audit/sinks/position.js";
import { useAuditFiles } from "../../support/audit-files.js";

const log = useAuditFiles();
const SMALL = 1500;

/** Reads to the end and returns the numbers of the lines read, and the last batch. */
const readOn = async (after?: Position) => {
  const seqs: unknown[] = [];
  let position = after;
  let missing = 0;
  let isReplaced = false;
  for (;;) {
    const batch: Batch = await readLinesAfter(log.file, position);
    seqs.push(...batch.lines.map(({ fields }) => fields?.["seq"]));
    position = batch.end ?? position;
    missing += batch.missing;
    isReplaced ||= batch.replaced;
    if (batch.lines.length === 0) return { seqs, position, missing, isReplaced };
  }
};
const upTo = (first: number, last: number) => Array.from({ length: last - first + 1 }, (_, at) => first + at);

it("a log that does not exist yet has no lines", async () => {
  expect(await readLinesAfter(log.file, undefined)).toMatchObject({ lines: [], end: undefined });
});

it("a sink reads a log across its rotated files once, and then what is appended", async () => {
  const writer = log.writer(SMALL, 50);
  await log.append(writer, 0, 12);
  const first = await readOn();
  expect(log.rotatedNames().length).toBeGreaterThan(1);
  const written = log.lines().at(-1) ?? "";
  const last = (JSON.parse(written) as { seq: number }).seq;
  expect(first.seqs).toEqual(upTo(1, last));
  await log.append(writer, 12, 9);
  const next = await readOn(first.position);
  expect(next.seqs[0]).toBe(last + 1);
  expect(next).toMatchObject({ missing: 0, isReplaced: false });
  expect(next.seqs).toEqual(upTo(last + 1, Number(next.seqs.at(-1))));
});

it("a sink leaves a torn last line until it is complete", async () => {
  await log.append(log.writer(), 0, 2);
  const [, second = ""] = log.lines();
  const whole = readFileSync(log.file);
  truncateSync(log.file, whole.length - 30);
  const first = await readOn();
  expect(first.seqs).toEqual([1]);
  writeFileSync(log.file, whole);
  const rest = await readLinesAfter(log.file, first.position);
  expect(rest.lines.map(({ text }) => text)).toEqual([second]);
});

it("a sink reads lines again that a writer removed on a full disk and wrote again", async () => {
  const writer = log.writer();
  await log.append(writer, 0, 3);
  const { position } = await readOn();
  const whole = readFileSync(log.file);
  const [first = "", second = ""] = log.lines();
  truncateSync(log.file, first.length + second.length + 2);
  const between = await readOn(position);
  expect(between.seqs).toEqual([]);
  writeFileSync(log.file, whole);
  expect((await readOn(between.position)).seqs).toEqual([3]);
});

it("a sink counts the lines that rotation removed before it read them", async () => {
  await log.append(log.writer(SMALL, 2), 0, 2);
  const { position } = await readOn();
  await log.append(log.writer(SMALL, 2), 2, 24);
  const next = await readOn(position);
  expect(next.isReplaced).toBe(false);
  expect(next.missing).toBe(Number(next.seqs[0]) - 3);
  expect(next.missing).toBeGreaterThan(0);
});

it("a sink finds its position in copies of the files, which have other inodes", async () => {
  const writer = log.writer(SMALL, 50);
  await log.append(writer, 0, 9);
  const { position, seqs } = await readOn();
  await log.append(writer, 9, 3);
  for (const name of [...log.rotatedNames(), "audit.log"]) {
    const path = join(dirname(log.file), name);
    copyFileSync(path, `${path}.copy`);
    renameSync(`${path}.copy`, path);
  }
  const next = await readOn(position);
  expect(next.seqs[0]).toBe(seqs.length + 1);
  expect(next).toMatchObject({ missing: 0, isReplaced: false });
});

it("a sink reads a log that replaced another one from its beginning", async () => {
  await log.append(log.writer(), 0, 5);
  const { position } = await readOn();
  rmSync(dirname(log.file), { recursive: true });
  rmSync(dirname(log.keyFile), { recursive: true });
  await log.append(log.writer(), 0, 7);
  expect(await readOn(position)).toMatchObject({ seqs: upTo(1, 7), isReplaced: true });
});

it("a shorter file with the inode of a removed one does not count as a shortened log", async () => {
  await log.append(log.writer(SMALL, 50), 0, 3);
  const { position } = await readOn();
  await log.append(log.writer(SMALL, 50), 3, 9);
  const { ino } = statSync(log.file);
  const next = await readOn({ ...(position as Position), inode: ino, offset: 1e6 });
  expect(next.seqs[0]).toBe(4);
});

it("a sink gets foreign bytes, and the lines that follow them", async () => {
  const writer = log.writer(SMALL, 50);
  await log.append(writer, 0, 1);
  appendFileSync(log.file, `garbage\n${"x".repeat(70_000)}`);
  const first = await readOn();
  expect(first.seqs).toEqual([1, undefined, undefined]);
  appendFileSync(log.file, `\n${log.lines()[0] ?? ""}\n`);
  expect((await readOn(first.position)).seqs).toContain(1);
});
