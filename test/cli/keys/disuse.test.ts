// `keys destroy` with etcd as proof: a KEK that protects an object stays; one that no object can come under is
// destroyed.

import { writeFileSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { labelOf } from "../../../src/provider/kek-label.js";
import { formatStoredObject } from "../../e2e/harness/stored-object.js";
import { startEtcd, type TestEtcd } from "../../support/etcd.js";
import { Pkcs11Client } from "../../support/pkcs11-client.js";
import { runCommand } from "../../support/command.js";
import { usePlugin } from "../../support/plugin-fixture.js";
import type { CommandResult } from "../../support/plugin-process.js";
import { makeFolder, tokenUri } from "../../support/token.js";

const YEAR_MS = 365 * 24 * 3_600_000;
const folder = makeFolder("disuse");
const node = usePlugin({}, { token: {}, start: false });
let etcd: TestEtcd;
/** key_ids: replaced a year ago, replaced a minute ago, active, standby. */
let settled: string;
let fresh: string;
let standby: string;
let before: string[];

const run = (...args: string[]): Promise<CommandResult> => runCommand(args, node.token.env);
const listed = async (): Promise<string[]> =>
  (
    JSON.parse(
      (await run("keys", "list", "--key", tokenUri(node.token, "kms-kek"), "-o", "json")).stdout,
    ) as {
      keys: { keyId: string }[];
    }
  ).keys.map(({ keyId }) => keyId);
const destroy = (keyId: string, ...proof: string[]): Promise<CommandResult> =>
  run("keys", "destroy", keyId, "--key", tokenUri(node.token, "kms-kek"), ...proof);
const live = (): string[] => ["--endpoints", etcd.endpoint];
const byWord = (keyId: string): string[] => ["--every-node-has-left", keyId];
const usage = (report: string): Promise<CommandResult> => run("etcd", "usage", ...live(), "--report", report);
const objectUnder = (keyId: string): Buffer =>
  formatStoredObject({
    provider: "hsm",
    encryptedData: Buffer.alloc(80),
    keyId,
    encryptedDekSource: Buffer.alloc(60),
    annotations: {},
    encryptedDekSourceType: 1,
  });

beforeAll(async () => {
  const now = Date.now();
  const instants = [now - 2 * YEAR_MS, now - YEAR_MS, now - 60_000, now + YEAR_MS];
  const labels = instants.map((instant) => labelOf("kms-kek", instant));
  const child = new Pkcs11Client(node.token);
  await child.open();
  await child.run(({ p11, state }, wanted: readonly string[]) => {
    for (const [index, label] of wanted.entries()) {
      state.makeKey({ [p11.CKA_LABEL]: label, [p11.CKA_ID]: Buffer.alloc(16, index + 1) });
    }
  }, labels);
  await child.kill();
  before = await listed();
  // Standby first, then the active KEK, then the retired ones, the latest first.
  [standby = "", , fresh = "", settled = ""] = before;
  expect(before).toHaveLength(4);
  etcd = await startEtcd();
  await etcd.store.put("/registry/secrets/ns/a", objectUnder(settled));
});

afterAll(() => etcd.remove());

describe("keys destroy with a proof from etcd", () => {
  it("'keys destroy' keeps a KEK that an object is under, whatever options are given", async () => {
    const report = join(folder, "used.json");
    expect((await usage(report)).code).toBe(0);
    for (const proof of [live(), ["--usage-report", report]]) {
      const { code, stderr } = await destroy(settled, ...proof, ...byWord(settled));
      expect([code, stderr]).toEqual([1, expect.stringContaining("1 objects are under it (secrets)")]);
    }
  });

  it("'keys destroy' keeps a KEK that API servers may still use, and a standby KEK", async () => {
    const early = await destroy(fresh, ...live(), ...byWord(fresh));
    expect(early.stderr).toMatch(
      /until \S+Z, API servers may still encrypt under the KEK; repeat the command/,
    );
    expect((await destroy(standby, ...live())).stderr).toContain("name every node with --nodes");
    expect((await destroy(fresh)).stderr).toContain("give --usage-report or --endpoints");
  });

  it("'keys destroy' rejects an old report or one of another cluster, accepts a valid one", async () => {
    await etcd.store.put("/registry/secrets/ns/a", Buffer.from("k8s\0"));
    const report = join(folder, "usage.json");
    expect((await usage(report)).code).toBe(0);
    const text = readFileSync(report, "utf8");
    const proven = (file: string, ...more: string[]): Promise<CommandResult> =>
      destroy(settled, "--usage-report", file, ...byWord(settled), ...more);
    expect((await proven(report, "--cluster-id", "1")).stderr).toContain("it covers cluster");
    const old = join(folder, "old.json");
    writeFileSync(old, text.replace(/"startedAt": "\d+/, '"startedAt": "2025'));
    expect((await proven(old)).stderr).toContain("take another, or give --max-report-age");
    writeFileSync(old, "{}");
    expect(await proven(old)).toMatchObject({ code: 2 });

    expect(await destroy(settled, "--usage-report", report)).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(
        /whether a node still encrypts under .* with --nodes.*--every-node-has-left/,
      ) as string,
    });
    expect((await destroy(settled, "--usage-report", report, ...byWord(fresh))).stderr).toContain(
      "--every-node-has-left names another key_id",
    );
    const nodes = ["--nodes", node.own.url];
    const forgetful = async (): Promise<CommandResult> => {
      await node.own.start();
      return destroy(settled, "--usage-report", report, ...nodes);
    };
    // A node whose memory has just begun may have used any KEK before.
    expect((await forgetful()).stderr).toMatch(/remembers since .*before every API server had left the KEK/);
    await node.own.stop();
    node.plugin.remember({ since: Date.now() - YEAR_MS / 12 });
    await node.own.start();
    const { code, stdout } = await destroy(settled, "--usage-report", report, ...nodes, "-o", "json");
    const { destroyed } = JSON.parse(stdout) as { destroyed: { keyId: string; proof: string } };
    expect([code, destroyed.keyId]).toEqual([0, settled]);
    expect(destroyed.proof).toMatch(/^no object is under it: .*; active on none of http:.*\/keys$/);
    expect(await listed()).toEqual(before.filter((keyId) => keyId !== settled));
  });
});
