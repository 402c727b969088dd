// Rotation and retention of the audit log, and what a verification finds if somebody removes or adds files.

import { readdirSync, readFileSync, renameSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { expect, it } from "vitest";

import { useAuditFiles } from "../support/audit-files.js";

const log = useAuditFiles();

it("the configured number of rotated files is kept, and the removal of another is found", async () => {
  const writer = log.writer(1000, 3);
  await log.append(writer, 0, 10);
  // Another writer appends in between, to a file that has to be rotated too.
  await log.append(log.writer(1000, 3), 10, 10);
  const names = readdirSync(join(log.folder, "log")).sort();
  expect(names).toHaveLength(4);
  for (const name of names.slice(1)) expect(name).toMatch(/^audit\.log\.\d{12}$/);
  const report = await log.verify();
  expect(report.problems).toEqual([]);
  expect(report.first?.seq).toBe(Number(names[1]?.slice(-12)));
  const oldest = join(log.folder, "log", names[1] ?? "");
  renameSync(oldest, join(log.folder, "taken"));
  expect((await log.problems()).join()).toMatch(/its beginning was removed/);
  renameSync(join(log.folder, "taken"), oldest);
  unlinkSync(join(log.folder, "log", names[2] ?? ""));
  expect((await log.problems()).join()).toMatch(/lines are missing before it/);
});

const headFile = (): string => `${log.keyFile}.head`;

it("the audit log finds a removed beginning, whatever lines follow", async () => {
  const writer = log.writer(1000, 5);
  await log.append(writer, 0, 8);
  unlinkSync(join(log.folder, "log", log.rotatedNames()[0] ?? ""));
  // Other processes continue: they read the folder's listing without the oldest file.
  await log.append(log.writer(1000, 5), 8, 4);
  expect((await log.problems()).join()).toMatch(
    /begins at number \d+ instead of 1: its beginning was removed/,
  );
  expect((await log.problems()).join()).toMatch(/numbers 1 to \d+ were already missing when it was written/);
});

it("the audit log keeps a removed beginning on record when retention removes later files", async () => {
  await log.append(log.writer(1000, 2), 0, 6);
  unlinkSync(join(log.folder, "log", log.rotatedNames()[0] ?? ""));
  await log.append(log.writer(1000, 2), 6, 4);
  expect((await log.problems()).join()).toMatch(/were already missing when it was written/);
});

it("the audit log finds a removed beginning of the first file", async () => {
  await log.append(log.writer(), 0, 5);
  log.rewrite(log.lines().slice(2));
  await log.append(log.writer(), 5, 1);
  expect((await log.problems()).join()).toMatch(/begins at number 3 instead of 1/);
});

it("the audit log adds the oldest number to a head of an earlier release", async () => {
  await log.append(log.writer(1000, 2), 0, 12);
  const { seq, mac } = JSON.parse(readFileSync(headFile(), "utf8")) as Record<string, unknown>;
  writeFileSync(headFile(), JSON.stringify({ seq, mac }));
  expect(await log.problems()).toEqual([]);
  await log.append(log.writer(1000, 2), 12, 1);
  expect(JSON.parse(readFileSync(headFile(), "utf8"))).toHaveProperty(
    "oldest",
    Number(log.rotatedNames()[0]?.slice(-12)),
  );
  expect(await log.problems()).toEqual([]);
});

it("the audit log accepts files that retention could not remove yet", async () => {
  await log.append(log.writer(1000, 2), 0, 6);
  const [oldest = ""] = log.rotatedNames();
  const kept = readFileSync(join(log.folder, "log", oldest));
  await log.append(log.writer(1000, 2), 6, 6);
  expect(log.rotatedNames()).not.toContain(oldest);
  writeFileSync(join(log.folder, "log", oldest), kept);
  expect((await log.problems()).join()).not.toMatch(/beginning/);
});

it.each([
  ["the first line", 0, 999_999_999_999_999],
  ["the first line", 0, 7],
  ["the last line", -1, 999_999_999_999_999],
  ["the last line", -1, 1],
])("the audit log uses no forged number of %s (at %i: %i)", async (_which, at, seq) => {
  await log.append(log.writer(), 0, 6);
  const forged = log.lines();
  const index = at < 0 ? forged.length + at : at;
  forged[index] = (forged[index] ?? "").replace(/"seq":\d+/, `"seq":${seq}`);
  log.rewrite(forged);
  await log.append(log.writer(1000, 20), 6, 12);
  for (const name of log.rotatedNames()) {
    expect(name).toMatch(/^audit\.log\.\d{12}$/);
    expect(Number(name.slice(-12))).toBeLessThan(100);
  }
  const report = await log.verify();
  expect(report.files).toHaveLength(log.rotatedNames().length + 1);
  expect(report.last?.seq).toBeLessThan(100);
  expect(report.problems.map(({ problem }) => problem).join()).toMatch(
    /was changed, or written with another key/,
  );
});

it("files with numbers that no line has had are found, and no other is removed for them", async () => {
  await log.append(log.writer(1000, 3), 0, 3);
  for (const number of ["000999999999", "999999999999", "999999999999999"]) {
    writeFileSync(`${log.file}.${number}`, "forged\n");
  }
  const genuine = log.rotatedNames()[0] ?? "";
  await log.append(log.writer(1000, 3), 3, 1);
  expect(log.rotatedNames()).toContain(genuine);
  expect((await log.verify()).problems.filter(({ problem }) => problem.includes("another key"))).toHaveLength(
    3,
  );
});
