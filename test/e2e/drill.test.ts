// The drill's runbook against a real snapshot: a cluster with Secrets, ConfigMaps, Services and custom resources under two KEKs, a
// clone of its token as the restored one, and real etcd, etcdutl and kube-apiserver for the private cluster. The snapshot also has
// a webhook and an aggregated API server of the live cluster, which the drill must not call.

import { once } from "node:events";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { createServer, type AddressInfo, type Server } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { DrillReport } from "../../src/evidence/drill-report.js";
import { provideEtcdTools } from "./harness/etcd-tools.js";
import { storageKey } from "./harness/etcd-store.js";
import { createKek } from "./harness/hsm-token.js";
import { KmsCluster, NAMESPACE, type Node } from "./harness/kms-cluster.js";
import { kmsPkcs11, kmsPkcs11Ok } from "./harness/kms-pkcs11.js";
import type { KubeClient } from "./harness/kube-client.js";
import { parallel } from "./harness/parallel.js";
import { record } from "./harness/report.js";
import { binaries, newFolder } from "./harness/run.js";
import { isAsShown, readRunbook, RunbookShell } from "./harness/runbook.js";
import { SoftHsmToken } from "./harness/softhsm-token.js";
import { until } from "./harness/wait.js";
import { createWidget, installWidgets, WIDGETS } from "./harness/widget.js";

const SECRETS = 60;

let token: SoftHsmToken;
let cluster: KmsCluster;
let node: Node;
let folder: string;
let reports: string;
let config: string;
/** A clone that was made before the second KEK. */
let early: SoftHsmToken;
let restored: SoftHsmToken;
/** Listens where the webhook of the snapshot leads, and counts connections. */
let live: Server;
let calls = 0;

beforeAll(async () => {
  folder = await newFolder("drill");
  reports = join(folder, "reports");
  await mkdir(reports);
  live = createServer((peer) => {
    calls++;
    peer.destroy();
  }).listen(0, "127.0.0.1");
  await once(live, "listening");
  token = await SoftHsmToken.create();
  await createKek(token);
  early = await token.clone();
  cluster = await KmsCluster.start(token, true);
  node = await cluster.startNode({
    resources: ["secrets", "configmaps", "services", WIDGETS],
    config: { keys: { refreshInterval: "1s" } },
    // Not those of the private API server.
    apiserverArgs: [
      "--service-cluster-ip-range=fd00:20::/108,172.20.0.0/16",
      "--service-node-port-range=20000-21000",
    ],
  });
  const { client } = node.apiserver;
  await installWidgets(client);
  await createWidget(client, NAMESPACE, "w", "a widget");
  await client.createConfigMap(NAMESPACE, "settings", "a setting");
  await createService(client);
  await createSecrets("first", client);
  await addAddresses(client, (live.address() as AddressInfo).port);
  await rotate();
  await createSecrets("second", node.apiserver.client);
  await writeFile(join(folder, "backup.db"), await cluster.plane.etcd.store.snapshot());
  // It writes leases, for which it asks the webhook.
  await node.apiserver.stop();
  restored = await token.clone();
  config = await writeConfig(restored, "drill.yaml");
  await provideEtcdTools(join(folder, "bin"));
});

afterAll(async () => {
  live.close();
  await cluster.stop();
});

async function createSecrets(name: string, client: KubeClient): Promise<void> {
  await parallel(SECRETS, 8, (at) => client.createSecret(NAMESPACE, `${name}-${at}`, "a value"));
}

/** Makes a Service with an address of either family and a port on every node. */
async function createService(client: KubeClient): Promise<void> {
  const spec = { type: "NodePort", ipFamilyPolicy: "RequireDualStack", ports: [{ port: 80 }] };
  const service = { apiVersion: "v1", kind: "Service", metadata: { name: "dual" }, spec };
  const answer = await client.post(`/api/v1/namespaces/${NAMESPACE}/services`, JSON.stringify(service));
  expect(answer).toMatchObject({ status: 201, body: expect.stringContaining("fd00:20::") as string });
}

/** Makes a webhook and an aggregated API server that lead to this machine's loopback. */
async function addAddresses(client: KubeClient, port: number): Promise<void> {
  const webhook = {
    apiVersion: "admissionregistration.k8s.io/v1",
    kind: "ValidatingWebhookConfiguration",
    metadata: { name: "live" },
    webhooks: [
      {
        name: "live.example.com",
        clientConfig: { url: `https://127.0.0.1:${port}/`, caBundle: "" },
        rules: [
          { apiGroups: ["*"], apiVersions: ["*"], operations: ["*"], resources: ["leases", "clusterroles"] },
        ],
        failurePolicy: "Ignore",
        sideEffects: "None",
        admissionReviewVersions: ["v1"],
      },
    ],
  };
  const path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
  expect((await client.post(path, JSON.stringify(webhook))).status).toBe(201);
}

/** Activates a second KEK, under which the API server encrypts from its restart on. */
async function rotate(): Promise<void> {
  const { socket } = node.plugin.places;
  const before = await activeKeyId(socket);
  await kmsPkcs11Ok(["keys", "rotate", "--key", token.uri(), "--activate-in", "2s"], token.env);
  await until("the second KEK is active", async () => (await activeKeyId(socket)) !== before);
  await node.apiserver.restart();
}

async function activeKeyId(socket: string): Promise<string> {
  const status = await kmsPkcs11Ok(["status", "--socket", socket, "-o", "json"]);
  return (JSON.parse(status) as { keyId: string }).keyId;
}

async function writeConfig(of: SoftHsmToken, name: string): Promise<string> {
  const path = join(folder, name);
  const document = {
    apiVersion: "kms-pkcs11.dev/v1",
    kind: "PluginConfiguration",
    keys: { uri: of.uri() },
    stateDir: join(folder, `${name}.state`),
  };
  await writeFile(path, JSON.stringify(document), { mode: 0o600 });
  return path;
}

/** Where drills keep what is private. */
async function temporary(): Promise<string> {
  const path = join(folder, "tmp");
  await mkdir(path, { recursive: true, mode: 0o700 });
  return path;
}

async function lastReport(): Promise<DrillReport> {
  const name =
    (await readdir(reports))
      .filter((one) => one.endsWith(".json"))
      .sort()
      .at(-1) ?? "";
  return JSON.parse(await readFile(join(reports, name), "utf8")) as DrillReport;
}

/** Runs a drill with all programs. */
async function drill(
  of: SoftHsmToken,
  file: string,
  more: readonly string[] = [],
  variables: Readonly<Record<string, string>> = {},
): Promise<{ code: number | null; output: string }> {
  const programs = [
    ...["--etcd", join(binaries(), "etcd"), "--etcdutl", join(folder, "bin", "etcdutl")],
    ...["--kube-apiserver", join(binaries(), "kube-apiserver")],
  ];
  const args = ["drill", "--config", file, "--snapshot", join(folder, "backup.db"), "--to", reports];
  const env = { ...of.env, TMPDIR: await temporary(), ...variables };
  const { code, stdout, stderr } = await kmsPkcs11([...args, ...programs, ...more], env, 240_000);
  return { code, output: `${stdout}\n${stderr}` };
}

it("the drill's runbook restores a cluster on a clone of the token and lists everything", async () => {
  const steps = await readRunbook(new URL("../../deploy/runbooks/drill.md", import.meta.url));
  const shell = await RunbookShell.create(folder, {
    ...restored.env,
    DRILL: config,
    REPORTS: reports,
    TMPDIR: await temporary(),
  });
  const before = calls;
  for (const { command, output } of steps) {
    const { code, stdout, stderr } = await shell.run(`PATH=${binaries()}:$PATH; ${command}`);
    expect([command, code], `${stdout}\n${stderr}`).toEqual([command, 0]);
    expect(isAsShown(stdout, output), `${command}\n${stdout}`).toBe(true);
  }
  const { steps: taken, listed, keks, isolation, seconds, complete } = await lastReport();
  expect([complete, keks.map(({ proven }) => proven)]).toEqual([true, [true, true]]);
  expect(
    listed.map(({ resource, objects, expected }) => [resource, objects === null ? -1 : objects >= expected]),
  ).toEqual([
    ["configmaps", true],
    ["secrets", true],
    ["services", true],
    [WIDGETS, true],
  ]);
  expect(listed.find(({ resource }) => resource === "secrets")).toMatchObject({ objects: 2 * SECRETS });
  expect(calls).toBe(before);
  expect(await readdir(await temporary())).toEqual([]);
  record("drill", `${taken.length} steps (${isolation ?? "no network"}), s`, seconds);
  for (const { step, seconds: time } of taken) record("drill", `step ${step}, s`, time ?? 0);
});

it("a drill with a clone from before a rotation names only what needs the later KEK", async () => {
  const { code, output } = await drill(early, await writeConfig(early, "early.yaml"), ["--wait", "30s"]);
  expect([code, output]).toEqual([1, expect.stringContaining("objects cannot be read") as string]);
  const { failures, keks, resources, steps } = await lastReport();
  // kube-apiserver becomes ready only when it has read every Secret.
  expect(steps.at(-2)).toMatchObject({ step: "apiserver", outcome: "failed" });
  expect(keks.filter(({ found }) => !found)).toHaveLength(1);
  expect(resources.find(({ resource }) => resource === "secrets")).toMatchObject({
    opened: SECRETS,
    failed: SECRETS,
  });
  expect(failures[0]?.keys[0]).toBe(storageKey("secrets", NAMESPACE, "second-0"));
  expect(await readdir(await temporary())).toEqual([]);
});

it("a drill without a network namespace uses loopback and calls no address in the snapshot", async () => {
  const before = calls;
  const { code, output } = await drill(restored, config, [], { PATH: "/none" });
  expect(code, output).toBe(0);
  const { isolation, complete } = await lastReport();
  expect([isolation, complete, calls]).toEqual(["loopback", true, before]);
  expect(await readdir(await temporary())).toEqual([]);
});

it("a drill beside the live plugin refuses its configuration and its token", async () => {
  const liveConfig = join(node.plugin.places.folder, "config.yaml");
  expect(await drill(token, liveConfig)).toMatchObject({ code: 2 });
  const refused = await drill(restored, config, ["--live", liveConfig]);
  expect(refused).toMatchObject({ code: 2, output: expect.stringContaining("--live-token") as string });
});
