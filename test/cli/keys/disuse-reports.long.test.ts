// `keys destroy` with a usage report as proof: only a valid one of this cluster, and a node's memory, prove that no object can
// come under a KEK.

import { writeFileSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import type { CommandResult } from "../../support/plugin-process.js";
import { makeFolder } from "../../support/token.js";
import { byWord, useFourKeks, YEAR_MS } from "./four-keks.js";

const folder = makeFolder("disuse");
const keks = useFourKeks();

it("'keys destroy' rejects an old report or one of another cluster, accepts a valid one", async () => {
  await keks.etcd.store.put("/registry/secrets/ns/a", Buffer.from("k8s\0"));
  const report = join(folder, "usage.json");
  expect((await keks.usage(report)).code).toBe(0);
  const text = readFileSync(report, "utf8");
  const proven = (file: string, ...more: string[]): Promise<CommandResult> =>
    keks.destroy(keks.settled, "--usage-report", file, ...byWord(keks.settled), ...more);
  expect((await proven(report, "--cluster-id", "1")).stderr).toContain("it covers cluster");
  const old = join(folder, "old.json");
  writeFileSync(old, text.replace(/"startedAt": "\d+/, '"startedAt": "2025'));
  expect((await proven(old)).stderr).toContain("take another, or give --max-report-age");
  writeFileSync(old, "{}");
  expect(await proven(old)).toMatchObject({ code: 2 });

  expect(await keks.destroy(keks.settled, "--usage-report", report)).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(
      /whether a node still encrypts under .* with --nodes.*--every-node-has-left/,
    ) as string,
  });
  expect(
    (await keks.destroy(keks.settled, "--usage-report", report, ...byWord(keks.fresh))).stderr,
  ).toContain("--every-node-has-left names another key_id");
  const nodes = ["--nodes", keks.node.own.url];
  const forgetful = async (): Promise<CommandResult> => {
    await keks.node.own.start();
    return keks.destroy(keks.settled, "--usage-report", report, ...nodes);
  };
  // A node whose memory has just begun may have used any KEK before.
  expect((await forgetful()).stderr).toMatch(/remembers since .*before every API server had left the KEK/);
  await keks.node.own.stop();
  keks.node.plugin.remember({ since: Date.now() - YEAR_MS / 12 });
  await keks.node.own.start();
  const { code, stdout } = await keks.destroy(keks.settled, "--usage-report", report, ...nodes, "-o", "json");
  const { destroyed } = JSON.parse(stdout) as { destroyed: { keyId: string; proof: string } };
  expect([code, destroyed.keyId]).toEqual([0, keks.settled]);
  expect(destroyed.proof).toMatch(/^no object is under it: .*; active on none of http:.*\/keys$/);
  expect(await keks.listed()).toEqual(keks.before.filter((keyId) => keyId !== keks.settled));
});
