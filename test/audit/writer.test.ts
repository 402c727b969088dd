// How a writer continues an audit log: after crashes, beside other writers, and which files it refuses.

import {
  appendFileSync,
  chownSync,
  existsSync,
  linkSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";

import { afterEach, expect, it, vi } from "vitest";

import { AuditWriter } from "../../src/audit/writer.js";
import { withLock } from "../../src/files/turn-lock.js";
import { useAuditFiles } from "../support/audit-files.js";

const log = useAuditFiles();

afterEach(() => {
  vi.restoreAllMocks();
});

it("the audit writer continues after an incomplete line and records that it was removed", async () => {
  await log.append(log.writer(), 0, 3);
  appendFileSync(log.file, '{"v":1,"seq":4,"time":"2026');
  expect(await log.verify()).toMatchObject({ lines: 3, problems: [], remarks: [{ line: 4 }] });
  await log.append(log.writer(), 3, 1);
  expect(log.lines().map((line) => (JSON.parse(line) as { event: string }).event)).toEqual([
    "request",
    "request",
    "request",
    "recovered",
    "request",
  ]);
  expect((await log.verify()).problems).toEqual([]);
});

it("the audit writer continues after an incomplete first line", async () => {
  await log.append(log.writer(), 0, 1);
  truncateSync(log.file, 20);
  rmSync(`${log.keyFile}.head`);
  await log.append(log.writer(), 0, 1);
  expect(await log.verify()).toMatchObject({ lines: 2, problems: [] });
});

it("the audit writer continues only regular files of its user with one name", async () => {
  await log.append(log.writer(), 0, 1);
  const target = join(log.folder, "target");
  writeFileSync(target, "");
  rmSync(log.file);
  linkSync(target, log.file);
  await expect(log.append(log.writer(), 1, 1)).rejects.toThrow(
    /has 2 names \(hard links\); .* move it first/,
  );
  expect(readFileSync(target, "utf8")).toBe("");
  rmSync(log.file);
  mkdirSync(log.file);
  await expect(log.append(log.writer(), 1, 1)).rejects.toThrow();
  rmSync(log.file, { recursive: true });
  if (process.getuid?.() !== 0) return;
  writeFileSync(log.file, "");
  chownSync(log.file, 4242, 4242);
  await expect(log.append(log.writer(), 1, 1)).rejects.toThrow(/belongs to user 4242/);
});

it("the audit writer continues after a process that ended between rotating and writing", async () => {
  await log.append(log.writer(), 0, 3);
  renameSync(log.file, `${log.file}.000000000001`);
  await log.append(log.writer(), 3, 1);
  expect(await log.verify()).toMatchObject({ lines: 5, problems: [] });
  expect(log.lines()[0]).toContain('"event":"rotated","from":"audit.log.000000000001","oldest":1');
});

it("the audit writer lets several writers continue one chain at once", async () => {
  const writers = Array.from({ length: 6 }, (_, at) => log.append(log.writer(4000, 1000), at * 100, 15));
  await Promise.all(writers);
  const report = await log.verify();
  expect(report.problems).toEqual([]);
  const texts = report.files.flatMap((path) => log.lines(path));
  expect(texts.filter((line) => line.includes('"event":"request"'))).toHaveLength(90);
});

it("the audit writer ignores a lock that a crash left behind, but waits for a held one", async () => {
  await log.append(log.writer(), 0, 1);
  const lock = `${log.file}.lock`;
  writeFileSync(lock, "");
  const waiting = log.append(log.writer(), 1, 1);
  expect(existsSync(lock)).toBe(true);
  expect(log.lines()).toHaveLength(1);
  utimesSync(lock, 0, 0);
  await waiting;
  expect(log.lines()).toHaveLength(2);
  expect(existsSync(lock)).toBe(false);
});

it("the audit writer warns when the log continues under a new key, and not when a log begins", async () => {
  const warnings: string[] = [];
  const settings = { file: log.file, keyFile: log.keyFile, maxBytes: 1e6, keep: 3 };
  const append = () => log.append(new AuditWriter(settings, (text) => warnings.push(text)), 0, 1);
  await append();
  await append();
  expect(warnings).toEqual([]);
  rmSync(dirname(log.keyFile), { recursive: true });
  await append();
  expect(warnings).toEqual([expect.stringContaining(`${log.keyFile} was missing and was created`)]);
});

it("the audit writer waits until the lock of a writer that was killed counts as abandoned", async () => {
  await log.append(log.writer(), 0, 1);
  writeFileSync(`${log.file}.lock`, "");
  // Clocks that advance each time they are read: on a busy machine, no poll of the lock file comes too late.
  const [began, uptime] = [Date.now(), performance.now()];
  let passed = 0;
  vi.spyOn(Date, "now").mockImplementation(() => began + (passed += 200));
  vi.spyOn(performance, "now").mockImplementation(() => uptime + (passed += 200));
  await log.append(log.writer(), 1, 1);
  expect(log.lines()).toHaveLength(2);
});

it("the audit writer returns the result of the work although the lock cannot be released", async () => {
  const parent = join(log.folder, "gone");
  mkdirSync(parent);
  const done = withLock(join(parent, "lock"), () => {
    rmSync(parent, { recursive: true });
    writeFileSync(parent, "");
    return Promise.resolve("done");
  });
  await expect(done).resolves.toBe("done");
});

it("the audit writer refuses a damaged or exposed key, and a file that is not a log", async () => {
  await log.append(log.writer(), 0, 1);
  const key = readFileSync(log.keyFile);
  writeFileSync(log.keyFile, "abc");
  await expect(log.append(log.writer(), 1, 1)).rejects.toThrow(/is not an audit key/);
  rmSync(log.keyFile);
  writeFileSync(log.keyFile, key, { mode: 0o644 });
  await expect(log.append(log.writer(), 1, 1)).rejects.toThrow(/chmod 600/);
  await expect(log.verify()).rejects.toThrow(/chmod 600/);
  rmSync(log.keyFile);
  writeFileSync(log.keyFile, key, { mode: 0o600 });
  writeFileSync(log.file, "x".repeat(100_000));
  await expect(log.append(log.writer(), 1, 1)).rejects.toThrow(/is not an audit log/);
});
