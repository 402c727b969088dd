// `drill` with a token that lacks a KEK, with many unreadable objects, with a wrong PIN, beside a live token, and after a drill
// that was killed.

import { mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { describe, expect, it } from "vitest";

import type { DrillReport } from "../../../src/evidence/drill-report.js";
import { formatStoredObject } from "../../e2e/harness/stored-object.js";
import { runCommand } from "../../support/command.js";
import { saveSecrets, secretKey, SECRETS } from "../../support/drill-stage.js";
import { newSeed, sealedObject } from "../../support/stored-secrets.js";
import { waitFor } from "../../support/wait.js";
import { useDrill } from "./stocked-drill.js";

const drill = useDrill();

describe("what could not be read", () => {
  it("drill lists the objects of a KEK that the restored token lacks, and no others", async () => {
    const before = (await drill.kms.client.status()).keyId;
    const rotate = ["keys", "rotate", "--config", drill.kms.plugin.configFile, "--activate-in", "2s"];
    expect(await runCommand(rotate, drill.kms.token.env)).toMatchObject({ code: 0 });
    await waitFor(async () => (await drill.kms.client.status()).keyId !== before, {
      what: "the second KEK",
      timeoutMs: 30_000,
    });
    const file = join(drill.stage.folder, "both.db");
    const second = await newSeed(drill.kms.plugin.socket);
    await saveSecrets([drill.seed, second], file);
    const { code, stdout } = await drill.run("--snapshot", file, "-o", "json");
    const { passed, keks, failures, resources } = JSON.parse(stdout) as DrillReport;
    expect([code, passed]).toEqual([1, false]);
    expect(keks).toContainEqual(expect.objectContaining({ keyId: before, objects: SECRETS, proven: true }));
    expect(keks).toContainEqual(expect.objectContaining({ keyId: second.encrypted.keyId, found: false }));
    expect(resources).toMatchObject([{ opened: SECRETS, failed: SECRETS }]);
    expect(failures).toMatchObject([
      { objects: SECRETS, keys: expect.arrayContaining([secretKey(1, 0)]) as string[] },
    ]);
    expect(drill.outcomes()).toMatchObject({ keks: "failed", objects: "failed", plugin: "passed" });
  });

  it("a drill with thousands of unreadable objects shows a bounded report with correct counts", async () => {
    const file = join(drill.stage.folder, "thousands.db");
    const object = sealedObject(drill.seed, "/x", "x");
    const thousands = Array.from({ length: 3_000 }, (_, at): [string, Buffer] => {
      const keyId = `${at.toString(16).padStart(32, "0")}.n`;
      return [secretKey(7, at), formatStoredObject({ ...object, keyId })];
    });
    await saveSecrets([drill.seed], file, thousands);
    const { code, stdout } = await drill.run("--snapshot", file);
    expect(code).toBe(1);
    expect(stdout.split("\n").length).toBeLessThan(250);
    expect(stdout).toContain("failed: 3000 objects cannot be read");
    expect(stdout).toContain("and 2980 objects under 2980 more KEKs");
    const { resources, failures, keks } = drill.report();
    expect(resources).toMatchObject([{ objects: SECRETS + 3_000, opened: SECRETS, failed: 3_000 }]);
    expect(failures.reduce((sum, { objects }) => sum + objects, 0)).toBe(3_000);
    expect(failures.length).toBeLessThanOrEqual(101);
    expect(keks).toHaveLength(3_001);
  });

  it("a wrong PIN costs a drill one attempt, and none when the drill is repeated", async () => {
    const wrong = join(drill.stage.folder, "wrong-pin");
    writeFileSync(wrong, "000000", { mode: 0o600 });
    drill.stage.configure({}, wrong);
    try {
      expect(await drill.run()).toMatchObject({
        code: 1,
        stderr: expect.stringContaining("CKR_PIN_INCORRECT") as string,
      });
      expect(readdirSync(drill.stage.stateDir).filter((name) => name.startsWith("pin-"))).not.toEqual([]);
      const second = await drill.run();
      expect(second).toMatchObject({ code: 1, stderr: expect.stringContaining("not tried again") as string });
    } finally {
      drill.stage.configure();
    }
  });
});

it("drill refuses a token with the serial number of a live one unless --live-token is given", async () => {
  const live = join(drill.stage.folder, "live.yaml");
  const { label, modulePath, pinFile } = drill.kms.token;
  const uri = `pkcs11:token=${label};manufacturer=SoftHSM%20project;object=kms-kek?module-path=${modulePath}&pin-source=file:${pinFile}`;
  const document = { apiVersion: "kms-pkcs11.dev/v1", kind: "PluginConfiguration", keys: { uri } };
  writeFileSync(live, JSON.stringify(document), { mode: 0o600 });
  await drill.refuses("of the live one", "--live", live);
  const { code } = await drill.run("--live", live, "--live-token");
  expect(code).toBe(0);
  expect(drill.report().tokens).toMatchObject([{ live: "same serial number" }]);
});

it("drill removes what a killed drill has left, and leaves other folders alone", async () => {
  const { temporary } = drill.stage;
  const left = join(temporary, "kms-pkcs11-drill-abcdef");
  const other = join(temporary, "kms-pkcs11-other");
  mkdirSync(join(left, "etcd"), { recursive: true });
  mkdirSync(other);
  const { code, stderr } = await drill.run();
  expect([code, stderr]).toEqual([0, expect.stringContaining(`removed ${left}`) as string]);
  expect(readdirSync(temporary)).toEqual(["kms-pkcs11-other"]);
  rmSync(other, { recursive: true });
});
