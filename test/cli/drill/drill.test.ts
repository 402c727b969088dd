// `drill` with a real snapshot of etcd and a restored SoftHSM token, without the programs of a cluster: what it reads and
// reports, and what it refuses.

import { readFileSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";

import { describe, expect, it } from "vitest";

import { formatStoredObject } from "../../e2e/harness/stored-object.js";
import { saveSecrets, secretKey, SECRETS } from "../../support/drill-stage.js";
import { sealedObject } from "../../support/stored-secrets.js";
import { useDrill } from "./stocked-drill.js";

const drill = useDrill();

it("drill reads every object of a snapshot with the restored token and writes a dated report", async () => {
  const { code, stdout, stderr } = await drill.run();
  expect([code, stderr]).toEqual([0, expect.stringContaining("report: ") as string]);
  const [json = "", text = ""] = drill.stage.reportFiles();
  expect(json).toMatch(/^drill-\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ\.json$/);
  expect(text).toBe(json.replace(".json", ".txt"));
  expect(statSync(join(drill.stage.reports, json)).mode & 0o777).toBe(0o600);
  expect(readFileSync(join(drill.stage.reports, text), "utf8")).toBe(stdout);
  expect(stdout).toContain("passed: everything that was rehearsed can be read");
  const { passed, complete, keks, snapshot, tokens, seconds } = drill.report();
  expect([passed, complete, snapshot.objects]).toEqual([true, false, SECRETS + 1]);
  expect(drill.outcomes()).toMatchObject({ objects: "passed", etcd: "not rehearsed", plugin: "passed" });
  expect(keks).toMatchObject([{ objects: SECRETS, found: true, proven: true }]);
  expect(tokens).toMatchObject([{ label: "kms", live: "not compared" }]);
  expect(seconds).toBeGreaterThan(0);
  expect(readFileSync(join(drill.stage.reports, json), "utf8")).not.toContain(`"${drill.kms.token.pin}"`);
});

describe("what could not be read", () => {
  it("drill lists by resource what it could not prove, and why", async () => {
    const file = join(drill.stage.folder, "others.db");
    const other = {
      ...sealedObject(drill.seed, secretKey(8, 0), "x"),
      provider: "second",
      keyId: `${"07".repeat(16)}.n`,
    };
    await saveSecrets([drill.seed], file, [
      ["/registry/secrets/ns-9/old", Buffer.from("k8s:enc:aescbc:v1:key1:0123456789abcdef")],
      ["/registry/configmaps/ns-9/old", Buffer.from("k8s:enc:kms:v1:before:0123456789abcdef")],
      ["/registry/secrets/ns-9/clear", Buffer.from('{"kind":"Secret"}')],
      ["/registry/pods/ns-9/clear", Buffer.from('{"kind":"Pod"}')],
      [secretKey(8, 0), formatStoredObject(other)],
    ]);
    const { code, stdout } = await drill.run("--snapshot", file);
    expect(code).toBe(1);
    expect(drill.report().notProven).toMatchObject([
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
    const file = join(drill.stage.folder, "bad.db");
    writeFileSync(file, readFileSync(drill.stage.snapshot));
    damage(file);
    const { code, stderr } = await drill.run("--snapshot", file);
    expect([code, stderr]).toEqual([2, expect.stringContaining("--snapshot: ") as string]);
    expect(drill.outcomes()).toMatchObject({
      snapshot: "failed",
      token: "not rehearsed",
      list: "not rehearsed",
    });
    expect(drill.report()).toMatchObject({ passed: false, keks: [], snapshot: { sha256: null } });
  });

  it("drill exits with 3 if the token does not exist, and reports the step that failed", async () => {
    const uri = `pkcs11:token=none;object=kms-kek?module-path=${drill.kms.token.modulePath}`;
    const { code, stdout } = await drill.run("--key", uri);
    expect([code, stdout]).toEqual([3, expect.stringContaining("failed: see the steps above") as string]);
    expect(drill.outcomes()).toMatchObject({ snapshot: "passed", token: "failed", plugin: "not rehearsed" });
  });
});

describe("the live cluster", () => {
  it("drill names a snapshot that does not exist", async () => {
    const { code, stderr } = await drill.run("--snapshot", join(drill.stage.folder, "none.db"));
    expect(code).toBe(2);
    expect(stderr).toMatch(/--snapshot: \S+none\.db cannot be read \(ENOENT\); give a readable file/);
  });

  it("drill refuses the live configuration itself", async () => {
    await drill.refuses("is the live configuration", "--live", drill.stage.config);
  });

  it.each([
    ["socket.path", { socket: { path: "LIVE/run/kms.sock" } }],
    ["stateDir", { stateDir: "LIVE/state/of-drills" }],
    ["audit.file", { audit: { file: "LIVE/state/audit.log" } }],
  ])("drill refuses a configuration that shares %s with the live one", async (setting, sections) => {
    drill.stage.configure(
      JSON.parse(JSON.stringify(sections).replaceAll("LIVE", drill.kms.plugin.folder)) as object,
    );
    try {
      await drill.refuses(`${setting}: ${drill.kms.plugin.folder}`, "--live", drill.kms.plugin.configFile);
    } finally {
      drill.stage.configure();
    }
  });

  it("drill refuses a configuration on whose socket something listens", async () => {
    const path = join(drill.stage.folder, "a.sock");
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(path, resolve));
    drill.stage.configure({ socket: { path } });
    try {
      await drill.refuses(`socket.path: a plugin answers on ${path}`);
    } finally {
      drill.stage.configure();
      server.close();
    }
  });

  it.each(["--endpoints", "--kubeconfig"])("drill takes no %s", async (option) => {
    await drill.refuses(`${option}: a drill connects to no cluster`, option, "x");
  });
});
