// `drill` with a real snapshot of etcd and a restored SoftHSM token, without the programs of a cluster: what it reads and
// reports, what it refuses, and what it leaves behind.

import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";

import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";

import type { DrillReport } from "../../../src/evidence/drill-report.js";
import { formatStoredObject } from "../../e2e/harness/stored-object.js";
import { runCommand } from "../../support/command.js";
import { DrillStage, saveSecrets, secretKey, SECRETS } from "../../support/drill-stage.js";
import { usePlugin } from "../../support/plugin-fixture.js";
import type { CommandResult } from "../../support/plugin-process.js";
import { newSeed, sealedObject, type StoredSeed } from "../../support/stored-secrets.js";
import { waitFor } from "../../support/wait.js";

const kms = usePlugin({ keys: { refreshInterval: "1s" } });
let stage: DrillStage;
/** A seed under the KEK that the restored token holds. */
let seed: StoredSeed;

/** Runs a drill that finds none of the programs. */
const drill = (...more: string[]): Promise<CommandResult> =>
  runCommand(stage.args(...more), { ...stage.env, PATH: "/none" });

const report = (): DrillReport => stage.report() as DrillReport;
const outcomes = (): Record<string, string> =>
  Object.fromEntries(report().steps.map(({ step, outcome }) => [step, outcome]));

beforeAll(async () => {
  stage = new DrillStage(kms.token);
  seed = await newSeed(kms.plugin.socket);
  await saveSecrets([seed], stage.snapshot, [
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
  expect(outcomes()).toMatchObject({ objects: "passed", etcd: "not rehearsed", plugin: "passed" });
  expect(keks).toMatchObject([{ objects: SECRETS, found: true, proven: true }]);
  expect(tokens).toMatchObject([{ label: "kms", live: "not compared" }]);
  expect(seconds).toBeGreaterThan(0);
  expect(readFileSync(join(stage.reports, json), "utf8")).not.toContain(`"${kms.token.pin}"`);
});

describe("what could not be read", () => {
  it("drill lists the objects of a KEK that the restored token lacks, and no others", async () => {
    const before = (await kms.client.status()).keyId;
    const rotate = ["keys", "rotate", "--config", kms.plugin.configFile, "--activate-in", "2s"];
    expect(await runCommand(rotate, kms.token.env)).toMatchObject({ code: 0 });
    await waitFor(async () => (await kms.client.status()).keyId !== before, {
      what: "the second KEK",
      timeoutMs: 30_000,
    });
    const file = join(stage.folder, "both.db");
    const second = await newSeed(kms.plugin.socket);
    await saveSecrets([seed, second], file);
    const { code, stdout } = await drill("--snapshot", file, "-o", "json");
    const { passed, keks, failures, resources } = JSON.parse(stdout) as DrillReport;
    expect([code, passed]).toEqual([1, false]);
    expect(keks).toContainEqual(expect.objectContaining({ keyId: before, objects: SECRETS, proven: true }));
    expect(keks).toContainEqual(expect.objectContaining({ keyId: second.encrypted.keyId, found: false }));
    expect(resources).toMatchObject([{ opened: SECRETS, failed: SECRETS }]);
    expect(failures).toMatchObject([
      { objects: SECRETS, keys: expect.arrayContaining([secretKey(1, 0)]) as string[] },
    ]);
    expect(outcomes()).toMatchObject({ keks: "failed", objects: "failed", plugin: "passed" });
  });

  it("drill lists by resource what it could not prove, and why", async () => {
    const file = join(stage.folder, "others.db");
    const other = {
      ...sealedObject(seed, secretKey(8, 0), "x"),
      provider: "second",
      keyId: `${"07".repeat(16)}.n`,
    };
    await saveSecrets([seed], file, [
      ["/registry/secrets/ns-9/old", Buffer.from("k8s:enc:aescbc:v1:key1:0123456789abcdef")],
      ["/registry/configmaps/ns-9/old", Buffer.from("k8s:enc:kms:v1:before:0123456789abcdef")],
      ["/registry/secrets/ns-9/clear", Buffer.from('{"kind":"Secret"}')],
      ["/registry/pods/ns-9/clear", Buffer.from('{"kind":"Pod"}')],
      [secretKey(8, 0), formatStoredObject(other)],
    ]);
    const { code, stdout } = await drill("--snapshot", file);
    expect(code).toBe(1);
    expect(report().notProven).toMatchObject([
      { resource: "configmaps", objects: 1, provider: "kms:v1:before" },
      { resource: "secrets", objects: 1, provider: "aescbc:v1:key1" },
      { resource: "secrets", objects: 1, provider: "identity" },
      { resource: "secrets", objects: 1, provider: "kms:v2:second" },
    ]);
    expect(stdout).toMatch(
      /^not proven: 1 of secrets under aescbc:v1:key1: another provider encrypted them/m,
    );
    expect(stdout).toMatch(
      /^not proven: 1 of secrets under kms:v2:second: no token of the drill holds the KEK 07/m,
    );
    expect(stdout).not.toContain("pods");
  });

  it("a drill with thousands of unreadable objects shows a bounded report with correct counts", async () => {
    const file = join(stage.folder, "thousands.db");
    const object = sealedObject(seed, "/x", "x");
    const thousands = Array.from({ length: 3_000 }, (_, at): [string, Buffer] => {
      const keyId = `${at.toString(16).padStart(32, "0")}.n`;
      return [secretKey(7, at), formatStoredObject({ ...object, keyId })];
    });
    await saveSecrets([seed], file, thousands);
    const { code, stdout } = await drill("--snapshot", file);
    expect(code).toBe(1);
    expect(stdout.split("\n").length).toBeLessThan(250);
    expect(stdout).toContain("failed: 3000 objects cannot be read");
    expect(stdout).toContain("and 2980 objects under 2980 more KEKs");
    const { resources, failures, keks } = report();
    expect(resources).toMatchObject([{ objects: SECRETS + 3_000, opened: SECRETS, failed: 3_000 }]);
    expect(failures.reduce((sum, { objects }) => sum + objects, 0)).toBe(3_000);
    expect(failures.length).toBeLessThanOrEqual(101);
    expect(keks).toHaveLength(3_001);
  });

  it.each([
    {
      what: "was cut",
      damage: (file: string): void => {
        truncateSync(file, statSync(file).size - 8_192);
      },
    },
    {
      what: "is another file",
      damage: (file: string): void => {
        writeFileSync(file, "no database");
      },
    },
  ])("drill reports a snapshot that $what, and opens no token", async ({ damage }) => {
    const file = join(stage.folder, "bad.db");
    writeFileSync(file, readFileSync(stage.snapshot));
    damage(file);
    const { code, stderr } = await drill("--snapshot", file);
    expect([code, stderr]).toEqual([2, expect.stringContaining("--snapshot: ") as string]);
    expect(outcomes()).toMatchObject({ snapshot: "failed", token: "not rehearsed", list: "not rehearsed" });
    expect(report()).toMatchObject({ passed: false, keks: [], snapshot: { sha256: null } });
  });

  it("drill exits with 3 if the token does not exist, and reports the step that failed", async () => {
    const uri = `pkcs11:token=none;object=kms-kek?module-path=${kms.token.modulePath}`;
    const { code, stdout } = await drill("--key", uri);
    expect([code, stdout]).toEqual([3, expect.stringContaining("failed: see the steps above") as string]);
    expect(outcomes()).toMatchObject({ snapshot: "passed", token: "failed", plugin: "not rehearsed" });
  });

  it("a wrong PIN costs a drill one attempt, and none when the drill is repeated", async () => {
    const wrong = join(stage.folder, "wrong-pin");
    writeFileSync(wrong, "000000", { mode: 0o600 });
    stage.configure({}, wrong);
    try {
      expect(await drill()).toMatchObject({
        code: 1,
        stderr: expect.stringContaining("CKR_PIN_INCORRECT") as string,
      });
      expect(readdirSync(stage.stateDir).filter((name) => name.startsWith("pin-"))).not.toEqual([]);
      const second = await drill();
      expect(second).toMatchObject({ code: 1, stderr: expect.stringContaining("not tried again") as string });
    } finally {
      stage.configure();
    }
  });
});

describe("the live cluster", () => {
  const refused = async (message: string, ...more: string[]): Promise<void> => {
    const before = stage.reportFiles();
    const { code, stderr } = await drill(...more);
    expect([code, stderr]).toEqual([2, expect.stringContaining(message) as string]);
    expect(stage.reportFiles()).toEqual(before);
  };

  it("drill names a snapshot that does not exist", async () => {
    const { code, stderr } = await drill("--snapshot", join(stage.folder, "none.db"));
    expect(code).toBe(2);
    expect(stderr).toMatch(/--snapshot: \S+none\.db cannot be read \(ENOENT\); give a readable file/);
  });

  it("drill refuses the live configuration itself", async () => {
    await refused("is the live configuration", "--live", stage.config);
  });

  it.each([
    ["socket.path", { socket: { path: "LIVE/run/kms.sock" } }],
    ["stateDir", { stateDir: "LIVE/state/of-drills" }],
    ["audit.file", { audit: { file: "LIVE/state/audit.log" } }],
  ])("drill refuses a configuration that shares %s with the live one", async (setting, sections) => {
    stage.configure(JSON.parse(JSON.stringify(sections).replaceAll("LIVE", kms.plugin.folder)) as object);
    try {
      await refused(`${setting}: ${kms.plugin.folder}`, "--live", kms.plugin.configFile);
    } finally {
      stage.configure();
    }
  });

  it("drill refuses a configuration on whose socket something listens", async () => {
    const path = join(stage.folder, "a.sock");
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(path, resolve));
    stage.configure({ socket: { path } });
    try {
      await refused(`socket.path: a plugin answers on ${path}`);
    } finally {
      stage.configure();
      server.close();
    }
  });

  it("drill refuses a token with the serial number of a live one unless --live-token is given", async () => {
    const live = join(stage.folder, "live.yaml");
    const { label, modulePath, pinFile } = kms.token;
    const uri = `pkcs11:token=${label};manufacturer=SoftHSM%20project;object=kms-kek?module-path=${modulePath}&pin-source=file:${pinFile}`;
    const document = { apiVersion: "kms-pkcs11.dev/v1", kind: "PluginConfiguration", keys: { uri } };
    writeFileSync(live, JSON.stringify(document), { mode: 0o600 });
    await refused("of the live one", "--live", live);
    const { code } = await drill("--live", live, "--live-token");
    expect(code).toBe(0);
    expect(report().tokens).toMatchObject([{ live: "same serial number" }]);
  });

  it.each(["--endpoints", "--kubeconfig"])("drill takes no %s", async (option) => {
    await refused(`${option}: a drill connects to no cluster`, option, "x");
  });
});

it("drill removes what a killed drill has left, and leaves other folders alone", async () => {
  const { temporary } = stage;
  const left = join(temporary, "kms-pkcs11-drill-abcdef");
  const other = join(temporary, "kms-pkcs11-other");
  mkdirSync(join(left, "etcd"), { recursive: true });
  mkdirSync(other);
  const { code, stderr } = await drill();
  expect([code, stderr]).toEqual([0, expect.stringContaining(`removed ${left}`) as string]);
  expect(readdirSync(temporary)).toEqual(["kms-pkcs11-other"]);
  rmSync(other, { recursive: true });
});
