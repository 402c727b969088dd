// File system errors as an operator reads them: which user was refused what, by which folder; never a stack trace or
// the name of a temporary file.

import { spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, openSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { fileError } from "../../src/files/file-error.js";
import { MAIN } from "../support/plugin-process.js";
import { makeFolder } from "../support/token.js";

const top = makeFolder("file-error");
const isRoot = process.getuid?.() === 0;

afterAll(() => {
  rmSync(top, { recursive: true, force: true });
});

const errorOf = (work: () => unknown): unknown => {
  try {
    work();
  } catch (error) {
    return error;
  }
  throw new Error("nothing was thrown");
};

it("a file error names a file that exists or is missing, but the folder of one to be made", () => {
  const error = errorOf(() => openSync(join(top, "a.123.new", "x"), "r"));
  expect(fileError(error)?.message).toMatch(/a\.123\.new\/x cannot be used \(ENOENT: it does not exist\)$/);
  const missing = errorOf(() => openSync(join(top, "missing"), "r"));
  expect(fileError(missing)?.message).toBe(`${top}/missing cannot be used (ENOENT: it does not exist)`);
  writeFileSync(join(top, "there"), "");
  expect(
    fileError(
      errorOf(() => {
        mkdirSync(join(top, "there"));
      }),
    )?.message,
  ).toMatch(/there cannot be used \(EEXIST/);
  const full = Object.assign(new Error("no space"), {
    code: "ENOSPC",
    path: join(top, "pin-refused.json.77.new"),
  });
  expect(fileError(full)?.message).toBe(
    `a file in ${top} cannot be used (ENOSPC: no space is left on the device); free some space there`,
  );
});

it("a file error ignores errors that are not from the file system or name no path", () => {
  expect(fileError(new TypeError("defect"))).toBeUndefined();
  expect(
    fileError(Object.assign(new Error("x"), { code: "ECONNREFUSED", path: "/run/x.sock" })),
  ).toBeUndefined();
  expect(fileError(Object.assign(new Error("x"), { code: "EACCES" }))).toBeUndefined();
});

describe.runIf(isRoot)("a user who is denied access", () => {
  const closed = join(top, "closed");
  // In a folder from which another user may run it: the tests' own folders may be closed to other users.
  const asNobody = (...args: string[]): { code: number | null; stderr: string } => {
    const { status, stderr } = spawnSync(
      "setpriv",
      ["--reuid=65534", "--regid=65534", "--clear-groups", process.execPath, MAIN, ...args],
      { encoding: "utf8", cwd: "/", env: { PATH: process.env["PATH"] ?? "", HOME: "/" } },
    );
    return { code: status, stderr };
  };

  beforeAll(() => {
    chmodSync(top, 0o755);
    mkdirSync(join(closed, "inner"), { recursive: true });
    writeFileSync(join(closed, "inner", "config.yaml"), "");
    chmodSync(closed, 0o700);
  });

  const uri = "pkcs11:token=kms;object=kms-kek?module-path=/usr/lib/softhsm/libsofthsm2.so";
  it.each([
    ["the configuration", () => ["check", "--config", join(closed, "inner", "config.yaml")]],
    [
      "the state directory",
      () => ["keys", "list", "--key", uri, "--state-dir", join(closed, "inner", "state")],
    ],
    [
      "the audit log",
      () => [
        "audit",
        "verify",
        "--file",
        join(closed, "inner", "audit.log"),
        "--key-file",
        join(closed, "k"),
      ],
    ],
    ["a snapshot", () => ["etcd", "usage", "--snapshot", join(closed, "inner", "snapshot.db")]],
    [
      "a certificate",
      () => ["etcd", "usage", "--endpoints", "https://127.0.0.1:1", "--cacert", join(closed, "ca.pem")],
    ],
  ])("a file error is reported in one line: %s", (_what, args) => {
    const { code, stderr } = asNobody(...args());
    expect(code, stderr).toBe(2);
    expect(stderr).toMatch(/^kms-pkcs11: .*user nobody \(uid 65534\) may not enter \S*closed\b/);
    expect(stderr).not.toMatch(/\n\s+at |\.new\b|internal error/);
  });
});
