// The `etcd` commands as an operator runs them, on a real etcd with objects as API servers store them: under two modes
// of the plugin, under other providers, in clear, and damaged.
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readUsageReport } from "../../../src/etcd/usage-report.js";
import { formatStoredObject } from "../../e2e/harness/stored-object.js";
import { startEtcd, type TestEtcd } from "../../support/etcd.js";
import { freePort } from "../../support/free-port.js";
import { usePlugin } from "../../support/plugin-fixture.js";
import type { CommandResult } from "../../support/plugin-process.js";
import { sealedObject, sealedValue, type StoredSeed } from "../../support/stored-secrets.js";
import { makeFolder, tokenUri } from "../../support/token.js";
import { etcdCommands, key, SECRET, stockEtcd } from "./stocked-etcd.js";

let etcd: TestEtcd;
const kms = usePlugin({}, { token: { kek: true, faults: [] }, start: false });
let direct: StoredSeed;
let keyId: string;
const folder = makeFolder("etcd-cli");

/** The key_id of no KEK in this test. */
const OTHER = `${"07".repeat(16)}.c${"0".repeat(32)}`;

beforeAll(async () => {
  etcd = await startEtcd();
  direct = await stockEtcd(etcd, kms.own);
  keyId = direct.encrypted.keyId;
});

afterAll(() => etcd.remove());

const { run, runRaw } = etcdCommands(() => ({ ...kms.token.env, ETCDCTL_ENDPOINTS: etcd.endpoint }));
const absent = (): string => tokenUri({ ...kms.token, label: "none" }, "kms-kek");
const verify = (...args: string[]): Promise<CommandResult> =>
  run("verify", "--config", kms.plugin.configFile, ...args);

describe("etcd usage", () => {
  it("etcd usage counts objects by provider and key_id, without the HSM", async () => {
    const { code, stdout } = await run("usage", "--fail-if-used", OTHER);
    expect(code).toBe(0);
    expect(stdout).toMatch(new RegExp(`^kms:v2:hsm +${keyId} +302 +3 +secrets: 302 +4 +\\d+ to \\d+$`, "m"));
    expect(stdout).toMatch(/^aescbc:v1:key1 +1 +secrets: 1 +1 /m);
    expect(stdout).toMatch(/^plaintext +1 +configmaps: 1 /m);
    expect(stdout).toMatch(/^304 objects under \/registry\/ of cluster [0-9a-f]+, revision \d+$/m);
    expect(stdout).toContain(`${OTHER} is not used`);
  });

  it("etcd usage shows by its exit code whether a key_id is used", async () => {
    const { code, stdout } = await run("usage", "--fail-if-used", keyId, "-o", "json");
    expect([code, (JSON.parse(stdout) as { used: string[] }).used]).toEqual([1, [keyId]]);
    // A key_id with another kind of fingerprint may name the same KEK.
    const doubtful = await run("usage", "--fail-if-used", keyId.replace(/\..*/, `.s${"0".repeat(32)}`));
    expect([doubtful.code, doubtful.stdout]).toEqual([1, expect.stringContaining("was not found, but")]);
  });

  it("etcd usage exits with 2 before it asks etcd if --fail-if-used identifies no KEK", async () => {
    const away = ["--endpoints", "127.0.0.1:1"];
    const [ckaId = ""] = keyId.split(".");
    const texts = [" ", "foo", "kms-kek", "@other", `${keyId}0`, ` ${keyId}`];
    // References that cannot be looked up, since neither tokens nor nodes are given.
    for (const text of [...texts, keyId.slice(0, 12), ckaId, "@active"]) {
      expect(await run("usage", "--fail-if-used", text, ...away)).toMatchObject({
        code: 2,
        stderr: expect.stringMatching(/--fail-if-used: .*whole key_id|identifies no KEK/) as string,
      });
    }
  });

  it("--fail-if-used looks up a beginning, CKA_ID or state on the token, never in etcd", async () => {
    const [ckaId = ""] = keyId.split(".");
    const config = ["--config", kms.plugin.configFile];
    for (const text of [keyId.slice(0, 9), ckaId, ckaId.toUpperCase(), "@active"]) {
      const { code, stdout } = await run("usage", "--fail-if-used", text, ...config);
      expect([code, stdout]).toEqual([1, expect.stringContaining(`\n${keyId} is used`)]);
    }
    for (const text of ["@retired", "@standby", OTHER.slice(0, 8)]) {
      expect(
        await run("usage", "--fail-if-used", text, "--endpoints", "127.0.0.1:1", ...config),
      ).toMatchObject({
        code: 2,
        stderr: expect.stringContaining("matches no KEK") as string,
      });
    }
  });

  it("etcd usage lists objects in clear that the EncryptionConfiguration should encrypt", async () => {
    const file = join(folder, "encryption.json");
    const kms = { apiVersion: "v2", name: "hsm", endpoint: "unix:///run/kms.sock" };
    const rule = (resource: string): object => ({
      apiVersion: "apiserver.config.k8s.io/v1",
      kind: "EncryptionConfiguration",
      resources: [{ resources: [resource], providers: [{ kms }, { identity: {} }] }],
    });
    writeFileSync(file, JSON.stringify(rule("*.")));
    expect((await run("usage", "--encryption-config", file)).stdout).toContain(
      "should be encrypted: 1 of configmaps",
    );
    writeFileSync(file, JSON.stringify(rule("secrets")));
    expect((await run("usage", "--encryption-config", file)).stdout).not.toContain("should be encrypted");
  });

  it("etcd usage prints stored text on one line with control characters escaped", async () => {
    const hostile = "\u001b]0;x\u0007\u009b2J\nall is well";
    await etcd.store.putAll([
      ["/hostile/secrets/a/b", formatStoredObject({ ...sealedObject(direct, "b", SECRET), keyId: hostile })],
      [`/hostile/secrets/a/${hostile}`, Buffer.from("junk")],
      ["/hostile/constructor/a/b", Buffer.from("{}")],
    ]);
    const { code, stdout } = await run("usage", "--prefix", "/hostile");
    const harmless = "\\u001b]0;x\\u0007\\u009b2J\\u000aall is well";
    expect(stdout).not.toMatch(/[^\n\x20-\x7e]/);
    expect(stdout).toContain(`kms:v2:hsm  ${harmless}  1  `);
    expect(stdout).toMatch(/^plaintext .* constructor: 1 /m);
    expect(stdout).toContain(`\n/hostile/secrets/a/${harmless}: the stored value cannot be read`);
    expect(code).toBe(0);
    const json = (await run("usage", "--prefix", "/hostile", "-o", "json")).stdout;
    const { usages } = JSON.parse(json) as { usages: { keyId: string | null }[] };
    expect(usages.map((usage) => usage.keyId)).toContain(hostile);
  });

  it("etcd usage writes a report that can be read again", async () => {
    const file = join(folder, "usage.json");
    expect((await run("usage", "--report", file, "--prefix", "registry/secrets")).code).toBe(0);
    const report = readUsageReport(file);
    expect(report).toMatchObject({ prefix: "/registry/secrets/", objects: 303, source: { kind: "etcd" } });
    expect(report.usages.map(({ resources }) => Object.keys(resources))).toEqual([["secrets"], ["secrets"]]);
    writeFileSync(file, readFileSync(file, "utf8").replace('"objects"', '"things"'));
    expect(() => readUsageReport(file)).toThrow("is not a usage report");
  });

  it("etcd usage exits with 2 for a wrong prefix or snapshot, with 3 if etcd is away", async () => {
    expect(await run("usage", "--prefix", "/k8s")).toMatchObject({
      code: 2,
      stderr: expect.stringContaining("--etcd-prefix") as string,
    });
    expect((await run("usage", "--snapshot", join(folder, "none.db"))).code).toBe(2);
    const pipe = join(folder, "pipe.db");
    execFileSync("mkfifo", [pipe]);
    expect((await run("usage", "--snapshot", pipe)).code).toBe(2);
    expect((await run("usage", "--endpoints", `127.0.0.1:${await freePort()}`)).code).toBe(3);
  });
});

describe("etcd verify", () => {
  it("etcd verify decrypts every object under KMS v2 with the HSM, each DEK seed once", async () => {
    const { code, stdout } = await verify();
    expect(stdout).toMatch(/^RESOURCE +OBJECTS +DECRYPTED +IN CLEAR +OTHER PROVIDER +FAILED$/m);
    expect(stdout).toMatch(/^configmaps +1 +0 +1 +0 +0$/m);
    expect(stdout).toMatch(/^secrets +303 +302 +0 +1 +0$/m);
    expect(stdout).toContain("304 objects, 3 DEK seeds decrypted by the HSM");
    expect(stdout).toContain("every object under KMS v2 can be decrypted with this HSM");
    expect(code).toBe(0);
  });

  it("etcd verify names the objects that cannot be decrypted, with the reason", async () => {
    const good = sealedObject(direct, key("x"), SECRET);
    const damaged: Readonly<Record<string, Buffer>> = {
      moved: sealedValue(direct, key("elsewhere"), SECRET),
      "unknown-key": formatStoredObject({ ...good, keyId: "nobody's" }),
      seed: formatStoredObject({ ...good, encryptedDekSource: Buffer.alloc(60, 1) }),
      short: formatStoredObject({ ...good, encryptedData: Buffer.alloc(40) }),
      junk: Buffer.from("junk"),
    };
    await etcd.store.putAll(Object.entries(damaged).map(([name, value]) => [key(name, "bad"), value]));
    const { code, stdout } = await verify("--prefix", "/registry/secrets/bad", "-o", "json");
    const { failures } = JSON.parse(stdout) as { failures: { reason: string; keys: string[] }[] };
    const reasonFor = (name: string): string | undefined =>
      failures.find(({ keys }) => keys.includes(key(name, "bad")))?.reason;
    expect(Object.keys(damaged).map(reasonFor)).toEqual([
      expect.stringContaining("moved from another etcd key"),
      expect.stringContaining(`no KEK with key_id "nobody's"`),
      expect.stringMatching(/ciphertext/),
      expect.stringContaining("its data is too short"),
      expect.stringContaining("neither encrypted nor a Kubernetes object"),
    ]);
    expect(code).toBe(1);
    const table = await verify();
    expect(table.stdout).toMatch(
      /^1 failed: its data does not authenticate.*\n {2}\/registry\/secrets\/bad\/moved$/m,
    );
    expect(table.stdout).toContain("5 objects cannot be decrypted");
    const usage = await run("usage", "--fail-if-used", OTHER);
    expect([usage.code, usage.stdout]).toEqual([1, expect.stringContaining("so the answer is uncertain")]);
    for (const name of Object.keys(damaged)) await etcd.store.delete(key(name, "bad"));
  });

  it("etcd verify names --kek if neither a configuration nor a KEK is given", async () => {
    const stderr = expect.stringMatching(/no configuration: .*, or name the KEK with --kek$/m) as string;
    expect(await run("verify")).toMatchObject({ code: 2, stderr });
  });

  it("etcd verify exits with 3 if the HSM is away, and reports no object as damaged", async () => {
    expect(await verify("--kek", absent())).toMatchObject({ code: 3, stdout: "" });
  });
});

describe("etcd get", () => {
  const get = (...args: string[]): Promise<CommandResult> =>
    runRaw("get", "--config", kms.plugin.configFile, ...args);
  const auditFile = join(folder, "audit.log");
  const because = ["--break-glass", "INC-1: rebuild"];

  it("etcd get refuses without a reason, and without an audit log", async () => {
    expect(await get(key("local"))).toMatchObject({
      code: 2,
      stdout: "",
      stderr: expect.stringContaining("--break-glass: give the reason") as string,
    });
    expect(await get(key("local"), "--break-glass", " ")).toMatchObject({ code: 2, stdout: "" });
    expect(await get(key("local"), ...because)).toMatchObject({
      code: 2,
      stdout: "",
      stderr: expect.stringContaining("audit.file: is missing") as string,
    });
  });

  it("etcd get prints one object in clear after the audit log has recorded the reason", async () => {
    kms.own.configure({ audit: { file: auditFile } });
    expect(await get(key("local"), ...because)).toMatchObject({ code: 0, stdout: SECRET });
    expect((await get("/registry/configmaps/one/clear", ...because)).stdout).toBe('{"kind":"ConfigMap"}');
    const { value } = JSON.parse((await get(key("old-type"), ...because, "-o", "json")).stdout) as {
      value: string;
    };
    expect(Buffer.from(value, "base64").toString()).toBe(SECRET);
    const log = readFileSync(auditFile, "utf8");
    expect(log.match(/INC-1: rebuild/g)).toHaveLength(3);
    expect(log).toContain(key("old-type"));
    expect(log).not.toContain(SECRET);
  });

  it("etcd get records failures, and prints nothing if the event cannot be recorded", async () => {
    expect(await get(key("none"), ...because)).toMatchObject({ code: 2, stdout: "" });
    expect(await get(key("leftover"), ...because)).toMatchObject({
      code: 2,
      stderr: expect.stringContaining("is under aescbc:v1:key1") as string,
    });
    expect(readFileSync(auditFile, "utf8").match(/INPUT_INVALID/g)).toHaveLength(2);
    kms.own.configure({ audit: { file: join(kms.plugin.configFile, "audit.log") } });
    const unwritable = await get(key("local"), ...because);
    expect(unwritable).toMatchObject({ code: 2, stdout: "" });
    expect(unwritable.stderr).toContain("the audit log cannot be written");
  });
});
