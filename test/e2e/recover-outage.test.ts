// `etcd recover --delete` while kube-apiserver is killed, on a real API server: the run says what it has deleted and how to go on,
// nothing else is deleted, and the run that repeats it deletes the rest.

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import type { EtcdRecoverOutput } from "../../src/cli/output-schema/etcd-recover.js";
import type { CommandResult } from "../support/plugin-process.js";
import { storageKey } from "./harness/etcd-store.js";
import { KmsCluster, NAMESPACE, type Node } from "./harness/kms-cluster.js";
import { kmsPkcs11 } from "./harness/kms-pkcs11.js";
import { newFolder } from "./harness/run.js";
import { administratorEnvironment, makeUnreadable } from "./harness/unreadable-secrets.js";
import { until } from "./harness/wait.js";

const NAMES = ["a", "b", "c", "d"];
const KEYS = NAMES.map((name) => storageKey("secrets", NAMESPACE, name));
const SOUND = storageKey("secrets", NAMESPACE, "sound");
/** How long kube-apiserver is away. */
const AWAY_MS = 10_000;

let cluster: KmsCluster;
let node: Node;
let audit: string;
let backup: string;
let env: Record<string, string>;

beforeAll(async () => {
  cluster = await KmsCluster.start();
  const folder = await newFolder("outage");
  audit = join(folder, "audit.log");
  backup = join(folder, "backup.db");
  node = await cluster.startNode({ config: { audit: { file: audit } } });
  await node.apiserver.client.createSecret(NAMESPACE, "sound", "a value");
  env = await administratorEnvironment(cluster, node);
});

beforeEach(async () => {
  await makeUnreadable(cluster, node, NAMES, backup);
});

afterAll(async () => {
  await cluster.stop();
});

const recover = (): Promise<CommandResult> =>
  kmsPkcs11(
    [
      ...["etcd", "recover", "--config", join(node.plugin.places.folder, "config.yaml")],
      ...["--delete", "--yes", "--backup", backup, "-o", "json"],
    ],
    env,
    300_000,
  );

/** The lines of the audit log about deletions. */
async function recorded(): Promise<{ key: string; outcome: string }[]> {
  const lines = (await readFile(audit, "utf8")).split("\n");
  return lines
    .filter((line) => line.endsWith("}") && line.includes('"operation":"etcd recover"'))
    .map((line) => JSON.parse(line) as { outcome: string; details: { key?: string } })
    .flatMap(({ outcome, details: { key } }) => (key === undefined ? [] : [{ key, outcome }]));
}

const deletionOf = ({ stdout }: CommandResult) => (JSON.parse(stdout) as EtcdRecoverOutput).deletion;

/** Starts a run, and kills kube-apiserver when the run has deleted an object. */
async function killedMidway(): Promise<{ readonly run: Promise<CommandResult> }> {
  const before = (await recorded()).length;
  const run = recover();
  const hasDeleted = async (): Promise<boolean> =>
    (await recorded()).slice(before).some(({ outcome }) => outcome === "ok");
  await until("an object is deleted", hasDeleted, { timeoutMs: 120_000, intervalMs: 20 });
  await node.apiserver.kill();
  return { run };
}

const stored = async (): Promise<string[]> => {
  const { store } = cluster.plane.etcd;
  const found = await Promise.all(KEYS.map(async (key) => [key, await store.get(key)] as const));
  return found.filter(([, value]) => value !== undefined).map(([key]) => key);
};

/** Requires that an ended run names what it deleted, and that the next one deletes the rest and nothing twice. */
async function expectRest(ended: CommandResult, left: readonly string[]): Promise<void> {
  const results = deletionOf(ended)?.results ?? [];
  const deleted = results.filter(({ outcome }) => outcome === "deleted").map(({ key }) => key);
  expect(deleted).toEqual(KEYS.filter((key) => !left.includes(key)));
  const said = `deleted before that: ${deleted.length} of 4 objects; repeat the command`;
  expect([ended.code, ended.stderr]).toEqual([3, expect.stringContaining(said)]);
  const again = await recover();
  const outcomes = deletionOf(again)?.results.map(({ key, outcome }) => [key, outcome]);
  const expected = KEYS.map((key) => [key, left.includes(key) ? "deleted" : "gone"]);
  expect([again.code, outcomes?.sort()], again.stderr).toEqual([0, expected]);
  expect(deletionOf(again)?.lists).toEqual([{ resource: "secrets", error: null }]);
  const made = (await recorded()).filter(({ outcome }) => outcome === "ok").map(({ key }) => key);
  expect(made.slice(-KEYS.length).sort()).toEqual(KEYS);
  expect([await stored(), (await cluster.plane.etcd.store.get(SOUND)) !== undefined]).toEqual([[], true]);
}

it("a deletion in which kube-apiserver is killed and restarted is completed by the next run", async () => {
  const { run } = await killedMidway();
  await sleep(AWAY_MS);
  // It does not become ready before the objects are gone.
  node.apiserver.launch();
  const ended = await run;
  await expectRest(ended, await stored());
  await node.apiserver.ready();
}, 600_000);

it("a deletion in which kube-apiserver is killed and stays away ends, and can be completed", async () => {
  const { run } = await killedMidway();
  const ended = await run;
  const [list] = deletionOf(ended)?.lists ?? [];
  expect(list?.error).toContain("does not answer");
  const left = await stored();
  expect(left.length).toBeGreaterThan(0);
  node.apiserver.launch();
  const answers = async (): Promise<boolean> =>
    (await node.apiserver.get("/api/v1/namespaces?limit=1")).status === 200;
  await until("the API server answers", answers, { timeoutMs: 90_000 });
  await expectRest(ended, left);
  await node.apiserver.ready();
}, 600_000);
