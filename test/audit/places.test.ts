// Somebody with write access to the folder has replaced files of the audit log: the replacements are reported, and
// delay neither a writer nor a verification.

import { execFileSync } from "node:child_process";
import {
  appendFileSync,
  existsSync,
  lutimesSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";

import { afterEach, beforeEach, expect, it } from "vitest";

import { AuditWriter } from "../../src/audit/writer.js";
import { verifyAudit, type AuditReport } from "../../src/audit/verify.js";
import { makeFolder } from "../support/token.js";

let folder: string;
let file: string;
let keyFile: string;

beforeEach(async () => {
  folder = makeFolder("audit");
  file = join(folder, "log", "audit.log");
  keyFile = join(folder, "state", "audit.key");
  await append();
});

afterEach(() => {
  rmSync(folder, { recursive: true });
});

const append = (): Promise<void> =>
  new AuditWriter({ file, keyFile, maxBytes: 1e6, keep: 3 }).append([
    { time: 0, event: { event: "recovered", bytes: 1 } },
  ]);
const verify = (): Promise<AuditReport> => verifyAudit({ file, keyFile });
const makePipe = (path: string): void => {
  rmSync(path, { force: true });
  execFileSync("mkfifo", ["-m", "600", path]);
};

it("audit verify does not hold a 40 MiB line in memory", async () => {
  const before = readFileSync(file);
  await append();
  const last = readFileSync(file).subarray(before.length);
  writeFileSync(file, before);
  appendFileSync(file, `${"x".repeat(40 << 20)}\n`);
  appendFileSync(file, last);
  expect((await verify()).problems.map(({ line, problem }) => [line, problem])).toEqual([
    [2, "was changed, or written with another key"],
    [3, "number 2 follows number 2: moved or repeated"],
  ]);
});

it("audit verify does not wait for the writer of a pipe", async () => {
  makePipe(`${keyFile}.head`);
  await append();
  expect((await verify()).problems).toEqual([]);
  makePipe(file);
  await expect(verify()).rejects.toThrow(/is not a regular file/);
  rmSync(file);
  makePipe(`${file}.${"9".repeat(12)}`);
  await expect(append()).rejects.toThrow(/is not a regular file/);
  makePipe(keyFile);
  await expect(verify()).rejects.toThrow(/is not a regular file/);
});

it("a symbolic link in place of the audit log is refused as such", async () => {
  rmSync(file);
  symlinkSync(join(folder, "target"), file);
  await expect(append()).rejects.toMatchObject({
    code: "CONFIG_INVALID",
    message: `${file} is a symbolic link; the audit log is not written there, move it first`,
  });
  expect(existsSync(join(folder, "target"))).toBe(false);
});

it("a lock from the future is ignored, and one that is a dangling link", async () => {
  const lock = `${file}.lock`;
  writeFileSync(lock, "");
  utimesSync(lock, 4e9, 4e9);
  await append();
  symlinkSync("nowhere", lock);
  lutimesSync(lock, 0, 0);
  await append();
  expect((await verify()).lines).toBe(3);
});
