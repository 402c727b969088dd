// Files in folders that others may write to: none of them blocks a command or fills its memory.

import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { afterAll, expect, it } from "vitest";

import { readEncryptionConfiguration } from "../../src/config/encryption-configuration.js";
import { readUsageReport } from "../../src/etcd/usage-report.js";
import { readRegular } from "../../src/files/regular-file.js";

const folder = mkdtempSync(join(tmpdir(), "kms-pkcs11-regular-"));
const file = join(folder, "file");
const fifo = join(folder, "fifo");
const device = join(folder, "device");
const huge = join(folder, "huge");
writeFileSync(file, "content");
execFileSync("mkfifo", [fifo]);
symlinkSync("/dev/zero", device);
writeFileSync(huge, "");
truncateSync(huge, 2 ** 40);

afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

it("a file is read up to its limit", () => {
  expect(readRegular(file, 7).toString()).toBe("content");
  expect(() => readRegular(file, 6)).toThrow(/longer than 6 bytes/);
});

it.each([
  ["a usage report", readUsageReport],
  ["an EncryptionConfiguration", readEncryptionConfiguration],
])("%s that is a FIFO, a device or endless is refused at once", (_name, read) => {
  expect(() => read(fifo)).toThrow(/not a regular file/);
  expect(() => read(device)).toThrow(/not a regular file/);
  expect(() => read(huge)).toThrow(/longer than \d+ bytes/);
});
