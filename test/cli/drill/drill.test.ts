// `drill` with a real snapshot of etcd and a restored SoftHSM token, without the programs of a cluster: what it reads and reports,
// what it refuses, and what is left behind.

import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";

import type { DrillReport } from "../../../src/evidence/drill-report.js";
import { runCommand } from "../../support/command.js";
import { DrillStage, saveSecrets, secretKey, SECRETS } from "../../support/drill-stage.js";
import { usePlugin } from "../../support/plugin-fixture.js";
import type { CommandResult } from "../../support/plugin-process.js";
import { createSoftHsm } from "../../support/softhsm.js";

const kms = usePlugin();
let stage: DrillStage;

/** Runs a drill that finds none of the programs. */
const drill = (...more: string[]): Promise<CommandResult> =>
  runCommand(stage.args(...more), { ...stage.env, PATH: "/none" });

const report = (): DrillReport => stage.report() as DrillReport;
const outcomes = (): Record<string, string> =>
  Object.fromEntries(report().steps.map(({ step, outcome }) => [step, outcome]));

beforeAll(async () => {
  stage = new DrillStage(kms.token);
  await saveSecrets(kms, stage.snapshot, [
    ["/registry/configmaps/one/clear", Buffer.from('{"kind":"ConfigMap"}')],
  ]);
});
afterEach(() => {
  expect(readdirSync(stage.temporary)).toEqual([]);
});
afterAll(() => {
  stage.remove();
});

it("drill reads every object of a snapshot with the restored token and writes a dated report", async () => {
  const { code, stdout, stderr } = await drill();
  expect([code, stderr]).toEqual([0, expect.stringContaining("report: ") as string]);
  const [json = "", text = ""] = stage.reportFiles();
  expect(json).toMatch(/^drill-\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ\.json$/);
  expect(text).toBe(json.replace(".json", ".txt"));
  expect(statSync(join(stage.reports, json)).mode & 0o777).toBe(0o600);
  expect(readFileSync(join(stage.reports, text), "utf8")).toBe(stdout);
  expect(stdout).toContain("passed: everything that was rehearsed can be read");
  const { passed, complete, keks, snapshot, tokens, seconds } = report();
  expect([passed, complete, snapshot.objects]).toEqual([true, false, SECRETS + 1]);
  expect(keks).toMatchObject([{ objects: SECRETS, found: true, proven: true }]);
  expect(tokens).toMatchObject([{ label: "kms", live: "not compared" }]);
  expect(seconds).toBeGreaterThan(0);
  expect(readFileSync(join(stage.reports, json), "utf8")).not.toContain(`"${kms.token.pin}"`);
});
