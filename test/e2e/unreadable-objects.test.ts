// Objects that no key can decrypt, among many that are sound: the runbook finds and deletes them through a real API server,
// LIST works again, and no readable object is touched. E2E_UNREADABLE_AMONG=100000 gives the figure of the README.

import { execFileSync } from "node:child_process";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { EtcdRecoverOutput } from "../../src/cli/output-schema/etcd-recover.js";
import { newSeed, sealedValue } from "../support/stored-secrets.js";
import { storageKey } from "./harness/etcd-store.js";
import { provideEtcdTools } from "./harness/etcd-tools.js";
import { nodeUrls } from "./harness/keyring.js";
import { KmsCluster, NAMESPACE, type Node } from "./harness/kms-cluster.js";
import { kmsPkcs11 } from "./harness/kms-pkcs11.js";
import { record } from "./harness/report.js";
import { binaries, newFolder } from "./harness/run.js";
import { isAsShown, readRunbook, RunbookShell } from "./harness/runbook.js";
import { secretJson } from "./harness/seeded-secrets.js";
import { until } from "./harness/wait.js";
import { createWidget, installWidgets, WIDGETS, widgetKey } from "./harness/widget.js";

const OBJECTS = Number(process.env["E2E_UNREADABLE_AMONG"] ?? 10_000);
const LIST_LIMIT_MS = 60_000;
/** Secrets are read in parts, each of at most a thousand. */
const PART = 1_000;
/** Behind the provider's prefix, the HKDF info and the nonce. */
const DATA_AT = 100;
const SECRETS = "/api/v1/secrets";
const PRIORITIES = "priorityclasses.scheduling.k8s.io";
const gate = (enabled: boolean): string =>
  `--feature-gates=AllowUnsafeMalformedObjectDeletion=${String(enabled)}`;

/** Kubernetes 1.37 has the feature on by default. */
function featureArgs(): string[] {
  const version = execFileSync(join(binaries(), "kube-apiserver"), ["--version"], { encoding: "utf8" });
  return / v1\.3[2-6]\./.test(version) ? [gate(true)] : [];
}

let cluster: KmsCluster;
let node: Node;
let audit: string;
let shell: RunbookShell;
let env: Record<string, string>;

const nameOf = (at: number): string => `s-${String(at).padStart(6, "0")}`;
const keyOf = (at: number): string => storageKey("secrets", NAMESPACE, nameOf(at));

beforeAll(async () => {
  cluster = await KmsCluster.start();
  const folder = await newFolder("unreadable");
  audit = join(folder, "audit.log");
  node = await cluster.startNode({
    config: { audit: { file: audit } },
    resources: ["secrets", WIDGETS, PRIORITIES],
    apiserverArgs: featureArgs(),
  });
  const seed = await newSeed(node.plugin.places.socket);
  const numbers = Array.from({ length: OBJECTS }, (_, at) => at);
  await cluster.plane.etcd.store.putAll(
    numbers.map((at) => [keyOf(at), sealedValue(seed, keyOf(at), secretJson(nameOf(at)))] as const),
  );
  env = {
    ...cluster.token.env,
    CONFIG: join(node.plugin.places.folder, "config.yaml"),
    NODES: nodeUrls([node.plugin]),
    KUBECONFIG: await node.apiserver.writeKubeconfig(),
    ETCDCTL_ENDPOINTS: cluster.plane.etcd.endpoint,
  };
  shell = await RunbookShell.create(folder, env);
  await provideEtcdTools(join(folder, "bin"));
}, 600_000);

afterAll(async () => {
  await cluster.stop();
});

/** Flips one byte of a stored object's data. */
async function damage(key: string): Promise<void> {
  const { store } = cluster.plane.etcd;
  const value = await store.get(key);
  if (value === undefined) throw new Error(`${key} is not stored`);
  value.writeUInt8(value.readUInt8(DATA_AT) ^ 1, DATA_AT);
  await store.put(key, value);
}

/** Returns how many objects a complete LIST has; undefined if it fails. */
async function listed(path: string): Promise<number | undefined> {
  let count = 0;
  for (let next = ""; ;) {
    const { status, body } = await node.apiserver.get(
      `${path}?limit=500${next === "" ? "" : `&continue=${encodeURIComponent(next)}`}`,
    );
    if (status !== 200) return undefined;
    const { items, metadata } = JSON.parse(body) as { items: unknown[]; metadata: { continue?: string } };
    count += items.length;
    next = metadata.continue ?? "";
    if (next === "") return count;
  }
}

/** Returns the revision of every Secret, by key. */
async function revisions(): Promise<Map<string, number>> {
  const all = new Map<string, number>();
  for (let from = 0; from < OBJECTS; from += PART) {
    const prefix = keyOf(from).slice(0, -3);
    for (const { key, modRevision } of await cluster.plane.etcd.store.list(prefix)) all.set(key, modRevision);
  }
  return all;
}

interface DeletionEvent {
  readonly time: string;
  readonly operation?: string;
  readonly outcome: string;
  readonly details: { readonly key: string; readonly end?: true };
}

/** Returns what the audit log has of deletions. */
async function deletionEvents(): Promise<DeletionEvent[]> {
  const lines = (await readFile(audit, "utf8")).trim().split("\n");
  return lines
    .map((line) => JSON.parse(line) as DeletionEvent)
    .filter(({ operation, details }) => operation === "etcd recover" && details.end !== true);
}

const recover = (...args: string[]): ReturnType<typeof kmsPkcs11> =>
  kmsPkcs11(["etcd", "recover", "--config", env["CONFIG"] ?? "", ...args], env, 180_000);

async function snapshot(): Promise<string> {
  const file = join(await newFolder("backup"), "backup.db");
  const { code, stderr } = await shell.run(`etcdctl snapshot save ${file}`);
  expect([code, stderr]).toEqual([0, expect.any(String)]);
  return file;
}

describe("deploy/runbooks/unreadable-objects.md", () => {
  it("one damaged Secret among many is deleted, LIST works again, and no other is touched", async () => {
    const before = await revisions();
    expect(before.size).toBe(OBJECTS);
    const victim = keyOf(Math.floor(OBJECTS / 2));
    await damage(victim);
    await until("LIST fails", async () => (await listed(SECRETS)) === undefined, {
      timeoutMs: LIST_LIMIT_MS,
    });
    const steps = await readRunbook(new URL("../../deploy/runbooks/unreadable-objects.md", import.meta.url));
    for (const [at, { command, output }] of steps.entries()) {
      const { code, stdout, stderr } = await shell.run(command);
      expect([command, code], stdout + stderr).toEqual([command, at === 0 ? 1 : 0]);
      expect(isAsShown(stdout, output), `${command}\n${stdout}`).toBe(true);
    }
    const ended = Date.now();
    expect(await listed(SECRETS)).toBe(OBJECTS - 1);
    before.delete(victim);
    expect(await revisions()).toEqual(before);
    const events = await deletionEvents();
    expect(events.map(({ outcome, details }) => [details.key, outcome])).toEqual([
      [victim, "begun"],
      [victim, "ok"],
    ]);
    const deletedAt = Date.parse(events[1]?.time ?? "");
    record(
      "unreadable",
      `s from the deletion of 1 of ${OBJECTS} to a complete LIST`,
      (ended - deletedAt) / 1000,
    );
  }, 600_000);
});

describe("etcd recover --delete", () => {
  it("a damaged custom resource and a damaged cluster-scoped object are deleted as well", async () => {
    const { client } = node.apiserver;
    await installWidgets(client);
    await createWidget(client, NAMESPACE, "w", "a widget");
    const manifest = JSON.stringify({
      apiVersion: "scheduling.k8s.io/v1",
      kind: "PriorityClass",
      metadata: { name: "p" },
      value: 7,
    });
    expect((await client.post("/apis/scheduling.k8s.io/v1/priorityclasses", manifest)).status).toBe(201);
    const victims = [widgetKey(NAMESPACE, "w"), "/registry/priorityclasses/p"];
    for (const victim of victims) await damage(victim);
    const { code, stdout, stderr } = await recover(
      "--delete",
      "--yes",
      "--backup",
      await snapshot(),
      "-o",
      "json",
    );
    const { deletion } = JSON.parse(stdout) as EtcdRecoverOutput;
    const { results = [], lists = [] } = deletion ?? {};
    // What the run before has deleted is not named: it came to its end.
    const outcomes = results.map(({ key, outcome }) => [key, outcome]);
    expect([code, outcomes], stderr).toEqual([0, [...victims].sort().map((key) => [key, "deleted"])]);
    expect(new Set(lists.map(({ error }) => error))).toEqual(new Set([null]));
    expect(lists.map(({ resource }) => resource)).toEqual(
      expect.arrayContaining([expect.stringMatching(/^priorityclasses/), expect.stringMatching(/^widgets/)]),
    );
  });

  it("etcd recover --delete recognises an API server without the feature and deletes nothing", async () => {
    const victim = keyOf(1);
    await damage(victim);
    const without = await cluster.plane.addApiserver({
      extraArgs: [`--encryption-provider-config=${node.apiserver.encryptionFile}`, gate(false)],
    });
    without.launch();
    // It never becomes ready: its cache cannot be filled.
    const namespaces = "/api/v1/namespaces?limit=1";
    await until("the API server answers", async () => (await without.get(namespaces)).status === 200, {
      timeoutMs: 90_000,
    });
    const kubeconfig = await without.writeKubeconfig();
    const backup = await snapshot();
    const args = ["--delete", "--yes", "--backup", backup];
    const refused = await recover(...args, "--kubeconfig", kubeconfig);
    expect(refused.stderr).toMatch(/Kubernetes 1\.37 does/);
    expect(refused).toMatchObject({ code: 2, stdout: "" });
    expect(await cluster.plane.etcd.store.get(victim)).toBeDefined();
    await without.stop();
    const { code, stdout } = await recover(...args);
    expect([code, stdout]).toEqual([0, expect.stringContaining("LIST of secrets works")]);
    expect(await listed(SECRETS)).toBe(OBJECTS - 2);
  }, 600_000);
});
