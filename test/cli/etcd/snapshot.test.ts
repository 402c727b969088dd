// `--snapshot` on the command line, with a frozen snapshot and without any etcd program. What is in snapshots is tested in
// test/etcd/snapshot; verify and get read them in the end-to-end suite.

import { createHash } from "node:crypto";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { afterAll, expect, it } from "vitest";
import type { UsageReport } from "../../../src/etcd/usage-report.js";
import { runCommand } from "../../support/command.js";
import type { CommandResult } from "../../support/plugin-process.js";
import { makeFolder } from "../../support/token.js";

const folder = makeFolder("snapshot-cli");
const saved = gunzipSync(
  readFileSync(new URL("../../etcd/snapshot/fixtures/etcd-3.5.db.gz", import.meta.url)),
);
const file = join(folder, "backup.db");
writeFileSync(file, saved);
const copy = join(folder, "db");
writeFileSync(copy, saved.subarray(0, -32));

afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

const usage = (...args: string[]): Promise<CommandResult> =>
  runCommand(["etcd", "usage", ...args], { PATH: "/none" });

it("etcd usage counts the objects of a snapshot without an etcd program in PATH", async () => {
  const { code, stdout } = await usage("--snapshot", file, "-o", "json");
  const { source, objects, revisions, usages } = JSON.parse(stdout) as UsageReport;
  const sha256 = createHash("sha256").update(saved).digest("hex");
  expect([code, source, objects]).toEqual([0, { kind: "snapshot", sha256 }, 135]);
  expect(revisions).toEqual({ first: 249, last: 249 });
  expect(usages[0]?.resources).toMatchObject({ configmaps: 1, events: 1, pods: 2, secrets: 130 });
});

it("a copy of member/snap/db needs --skip-hash-check, as the message says", async () => {
  expect(await usage("--snapshot", copy)).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/a copy of member\/snap\/db, which needs --skip-hash-check\n$/) as string,
  });
  expect((await usage("--snapshot", copy, "--skip-hash-check")).stdout).toContain(
    "135 objects under /registry/",
  );
  expect(await usage("--skip-hash-check")).toMatchObject({
    code: 2,
    stderr: expect.stringContaining("applies to --snapshot FILE") as string,
  });
});

it("the options of the programs that a snapshot needed earlier are refused with the reason", async () => {
  for (const option of ["--etcd-bin", "--etcdutl-bin"]) {
    expect(await usage("--snapshot", file, option, "/usr/bin/etcd")).toMatchObject({
      code: 2,
      stderr: `kms-pkcs11: ${option}: was removed, since --snapshot needs no etcd program; omit it\n`,
    });
  }
});
