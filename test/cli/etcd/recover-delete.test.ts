// `etcd recover --delete` on a real etcd and token: what it deletes, what it never touches, and what it refuses before
// anything is deleted. kube-apiserver is a stand-in here, since it has to fail in ways that a real one does not on demand.
import { readFileSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { EtcdRecoverOutput } from "../../../src/cli/output-schema/etcd-recover.js";
import { formatStoredObject } from "../../e2e/harness/stored-object.js";
import { runCommand } from "../../support/command.js";
import { startEtcd, type TestEtcd } from "../../support/etcd.js";
import { saveSnapshot } from "../../support/etcd-history.js";
import { FakeNodes, standby } from "../../support/fake-nodes.js";
import { freePort } from "../../support/free-port.js";
import { usePlugin } from "../../support/plugin-fixture.js";
import type { CommandResult, PluginProcess } from "../../support/plugin-process.js";
import { SoftHsmClone } from "../../support/softhsm-clone.js";
import { newSeed, sealedObject, sealedValue, type StoredSeed } from "../../support/stored-secrets.js";
import { makeFolder, tokenUri } from "../../support/token.js";
import { key, SECRET } from "./stocked-etcd.js";
import { StandInRecovery } from "./stand-in-recovery.js";

const folder = makeFolder("recover-delete");
const backup = join(folder, "backup.db");
const auditFile = join(folder, "audit.log");
const kms = usePlugin({ audit: { file: auditFile } }, { token: { kek: true, faults: [] }, start: false });
const nodes = new FakeNodes();
let etcd: TestEtcd;
let api: StandInRecovery;
let seed: StoredSeed;
/** A configuration with a clone beside the fault module's token. */
let both: PluginProcess;

const OTHER = `${"07".repeat(16)}.c${"0".repeat(32)}`;
const good = (at: number): string => key(`good-${at}`);
const bad = (name: string): string => key(name, "bad");

beforeAll(async () => {
  etcd = await startEtcd();
  api = new StandInRecovery(etcd);
  await api.start();
  await kms.own.start();
  seed = await newSeed(kms.plugin.socket);
  await kms.own.stop();
  const readable = Array.from({ length: 20 }, (_, at) => good(at));
  await etcd.store.putAll(readable.map((name) => [name, sealedValue(seed, name, SECRET)]));
  await etcd.store.put(key("foreign"), Buffer.from("k8s:enc:aescbc:v1:key1:0123456789abcdef"));
  const failover = [{ uri: tokenUri(new SoftHsmClone(kms.token, "other"), "kms-kek") }];
  ({ plugin: both } = await kms.add({ failover, audit: { file: auditFile } }));
});

afterAll(async () => {
  nodes.close();
  await api.close();
  await etcd.remove();
});

beforeEach(async () => {
  kms.fault.set();
  api.reset();
  rmSync(auditFile, { force: true });
  const object = sealedObject(seed, bad("x"), SECRET);
  await etcd.store.putAll([
    [bad("a-moved"), sealedValue(seed, key("elsewhere"), SECRET)],
    [bad("b-junk"), Buffer.from("junk")],
    [bad("c-unknown"), formatStoredObject({ ...object, keyId: OTHER })],
  ]);
  rmSync(backup, { force: true });
  await saveSnapshot(etcd.store, backup);
});

const run = (...args: string[]): Promise<CommandResult> =>
  runCommand(["etcd", "recover", "--config", kms.plugin.configFile, ...args], {
    ...kms.token.env,
    ETCDCTL_ENDPOINTS: etcd.endpoint,
    KUBECONFIG: api.kubeconfig,
  });
const remove = (...args: string[]): Promise<CommandResult> =>
  run("--delete", "--yes", "--backup", backup, ...args);

async function outcomes(...args: string[]): Promise<Record<string, string>> {
  const { stdout, stderr } = await remove("-o", "json", ...args);
  expect(stdout, stderr).not.toBe("");
  const { deletion } = JSON.parse(stdout) as EtcdRecoverOutput;
  return Object.fromEntries(
    (deletion?.results ?? []).map(({ key: name, outcome }) => [name.replace(/.*\//, ""), outcome]),
  );
}

const badKeys = async (): Promise<string[]> => (await etcd.store.list(bad(""))).map((one) => one.key);
const revisions = async (): Promise<Map<string, number>> =>
  new Map((await etcd.store.list(key(""))).map((one) => [one.key, one.modRevision]));

interface AuditEvent {
  readonly operation?: string;
  readonly outcome?: string;
  readonly details?: Readonly<Record<string, string>>;
}
const audited = (): (string | undefined)[][] =>
  readFileSync(auditFile, "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as AuditEvent)
    .filter(({ operation }) => operation === "etcd recover")
    .map(({ outcome, details }) => [details?.["key"], outcome]);

describe("etcd recover --delete", () => {
  it("etcd recover --delete deletes damaged objects only, and records intent and outcome", async () => {
    const before = await revisions();
    const { code, stdout } = await remove();
    expect(stdout).toMatch(new RegExp(`^${bad("a-moved")} +deleted`, "m"));
    expect(stdout).toMatch(new RegExp(`^${bad("b-junk")} +deleted`, "m"));
    expect(stdout).toMatch(new RegExp(`^${bad("c-unknown")} +kept +its KEK may exist elsewhere`, "m"));
    expect(stdout).toContain("LIST of secrets works");
    expect(stdout).toContain("1 object that cannot be decrypted is left");
    expect(code).toBe(1);
    expect(await badKeys()).toEqual([bad("c-unknown")]);
    expect(await revisions()).toEqual(before);
    expect(audited()).toEqual([
      [bad("a-moved"), "begun"],
      [bad("a-moved"), "ok"],
      [bad("b-junk"), "begun"],
      [bad("b-junk"), "ok"],
    ]);
    expect(api.deleteOptions[0]).toEqual({
      kind: "DeleteOptions",
      apiVersion: "v1",
      ignoreStoreReadErrorWithClusterBreakingPotential: true,
    });
  });

  it("with --lost-kek, objects under that KEK are deleted too, and the exit code is 0", async () => {
    const { code, stderr } = await remove("--lost-kek", OTHER);
    expect([code, stderr]).toEqual([0, expect.stringContaining("next: keep the backup")]);
    expect(await badKeys()).toEqual([]);
  });

  it("with --lost-kek, objects under a KEK that a node has, or may have, are still kept", async () => {
    const holder = await nodes.node({ keys: [standby(OTHER)] });
    const away = `http://127.0.0.1:${await freePort()}`;
    for (const node of [holder.href, away]) {
      expect(await outcomes("--lost-kek", OTHER, "--nodes", node)).toMatchObject({ "c-unknown": "kept" });
    }
    expect(await badKeys()).toEqual([bad("c-unknown")]);
  });

  it("--only restricts the deletion to the listed objects at the listed revisions", async () => {
    const { stdout } = await run("-o", "json");
    const list = JSON.parse(stdout) as EtcdRecoverOutput;
    const file = join(folder, "only.json");
    const findings = list.findings.filter((one) => one.cause !== "unknown-key-id");
    const other = findings.map((one) => (one.key === bad("b-junk") ? { ...one, modRevision: 1 } : one));
    writeFileSync(file, JSON.stringify({ ...list, findings: other }));
    expect(await outcomes("--only", file)).toEqual({
      "a-moved": "deleted",
      "b-junk": "kept",
      "c-unknown": "kept",
    });
  });

  it("an object that is written again between the list and its deletion is not touched", async () => {
    api.hooks.onDelete = (name) =>
      name === bad("a-moved") && etcd.store.put(bad("b-junk"), sealedValue(seed, bad("b-junk"), SECRET));
    expect(await outcomes()).toEqual({ "a-moved": "deleted", "b-junk": "changed", "c-unknown": "kept" });
    expect(api.deletions).toEqual([bad("a-moved")]);
  });

  it("an object that kube-apiserver can read is never deleted", async () => {
    api.readable.add(bad("a-moved"));
    expect(await outcomes()).toMatchObject({ "a-moved": "readable", "b-junk": "deleted" });
    expect(api.deletions).toEqual([bad("b-junk")]);
  });

  it("an object that becomes readable just before its deletion stays, and the audit log says so", async () => {
    api.hooks.onDelete = (name) => api.readable.add(name);
    expect(await outcomes()).toMatchObject({ "a-moved": "readable", "b-junk": "readable" });
    expect(audited().map(([, outcome]) => outcome)).toEqual(["begun", "readable", "begun", "readable"]);
    expect(await badKeys()).toHaveLength(3);
  });

  it("a deletion whose answer is an error counts as made if etcd shows it", async () => {
    api.hooks.onDelete = async (name) => {
      await etcd.store.delete(name);
      await etcd.store.put(name, sealedValue(seed, name, SECRET));
      api.readable.add(name);
    };
    expect(await outcomes()).toMatchObject({ "a-moved": "deleted", "b-junk": "deleted" });
  });

  it("an interrupted deletion stops after the object in progress, and continues when run again", async () => {
    api.hooks.onDelete = () => process.emit("SIGTERM");
    const { code, stdout, stderr } = await remove();
    expect([code, stderr]).toEqual([1, expect.stringContaining("interrupted; repeat the command")]);
    expect(stdout).toMatch(new RegExp(`^${bad("a-moved")} +deleted`, "m"));
    expect(audited().map(([, outcome]) => outcome)).toEqual(["begun", "ok"]);
    api.hooks.onDelete = () => undefined;
    expect(await outcomes()).toEqual({ "b-junk": "deleted", "c-unknown": "kept" });
  });

  it("a token that fails during a deletion ends it", async () => {
    api.hooks.onDelete = () => {
      kms.fault.set("C_DecryptInit rv 0x32");
    };
    const { code, stdout, stderr } = await remove();
    expect([code, stderr]).toEqual([
      1,
      expect.stringMatching(/is not proven on .*; nothing further was deleted/),
    ]);
    expect(stdout).toMatch(/a-moved +deleted/);
    expect(api.deletions).toEqual([bad("a-moved")]);
  });
});

describe("what etcd recover --delete refuses before anything is deleted", () => {
  const refuses = async (result: Promise<CommandResult>, code: number, text: string): Promise<void> => {
    const { code: exitCode, stderr } = await result;
    expect([exitCode, stderr]).toEqual([code, expect.stringContaining(text)]);
    expect(api.deletions).toEqual([]);
    expect(await badKeys()).toHaveLength(3);
  };

  it("etcd recover --delete refuses a snapshot, and needs a backup, a terminal and an audit log", async () => {
    await refuses(run("--delete", "--yes"), 2, "--backup: name a snapshot");
    await refuses(run("--delete", "--backup", backup), 2, "--yes: is required without a terminal");
    await refuses(remove("--snapshot", backup), 2, "--delete: needs a running etcd");
    kms.own.configure({});
    try {
      await refuses(remove(), 2, "audit.file: is missing");
    } finally {
      kms.own.configure({ audit: { file: auditFile } });
    }
  });

  it("etcd recover --delete refuses a backup that is damaged, old, dated ahead or incomplete", async () => {
    const broken = join(folder, "broken.db");
    const bytes = readFileSync(backup);
    bytes.writeUInt8(bytes.readUInt8(9_000) ^ 1, 9_000);
    writeFileSync(broken, bytes);
    await refuses(run("--delete", "--yes", "--backup", broken), 2, `--backup: ${broken} is damaged`);
    const day = 24 * 3_600;
    const now = Date.now() / 1000;
    utimesSync(backup, now - 2 * day, now - 2 * day);
    await refuses(remove(), 2, "which is too long ago");
    utimesSync(backup, now + day, now + day);
    await refuses(remove(), 2, "is dated ahead");
    utimesSync(backup, now, now);
    await etcd.store.put(bad("b-junk"), Buffer.from("other junk"));
    await refuses(remove(), 2, "does not contain 1 of the 2 objects as they are now");
  });

  it("etcd recover --delete refuses more objects than --limit", async () => {
    await refuses(remove("--limit", "1"), 2, "more than --limit 1");
  });

  it("etcd recover --delete refuses while a token is away, even if another one decrypts", async () => {
    kms.fault.set("C_OpenSession rv 0x30");
    await refuses(remove("--config", both.configFile), 3, "nothing further was deleted");
  });

  it("etcd recover --delete refuses while a KEK on a token fails its proof", async () => {
    kms.fault.set("C_Decrypt rv 0x40");
    await refuses(remove("--config", both.configFile), 1, "is not proven on");
  });

  it("etcd recover --delete refuses an API server of another cluster", async () => {
    api.hooks.instead = ({ path }) =>
      path.endsWith("/kube-system") ? { status: 200, body: { metadata: { uid: "u-2" } } } : undefined;
    await refuses(remove(), 2, "is not an API server of this etcd");
  });

  it("etcd recover --delete refuses an API server that does not say corrupt object", async () => {
    const body = { kind: "Status", message: "Internal error occurred: no matching prefix found" };
    api.hooks.instead = ({ path, method }) =>
      method === "GET" && path.includes("/bad/") ? { status: 500, body } : undefined;
    await refuses(remove(), 2, "Kubernetes 1.37 does");
  });

  it("etcd recover --delete refuses a user who lacks the verb for unreadable objects", async () => {
    api.hooks.instead = ({ body }) =>
      JSON.stringify(body ?? "").includes("unsafe-delete-ignore-read-errors")
        ? { status: 201, body: { status: { allowed: false } } }
        : undefined;
    await refuses(remove(), 2, "may not unsafe-delete-ignore-read-errors secrets");
  });

  it("etcd recover --delete refuses if the audit log cannot record the intent", async () => {
    kms.own.configure({ audit: { file: join(kms.plugin.configFile, "audit.log") } });
    try {
      await refuses(remove(), 2, "the audit log cannot be written");
    } finally {
      kms.own.configure({ audit: { file: auditFile } });
    }
  });

  it("etcd recover refuses the options of a deletion without --delete", async () => {
    await refuses(run("--backup", backup), 2, "--backup: applies to --delete");
  });
});
