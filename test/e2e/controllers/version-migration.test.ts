// `etcd migrate --with svm`: Kubernetes' own controller rewrites what is under an earlier KEK, and the command finds
// nothing left in etcd.

import { afterAll, beforeAll, expect, it } from "vitest";
import { ControllerManager } from "../harness/controller-manager.js";
import { KmsCluster, NAMESPACE, type Node } from "../harness/kms-cluster.js";
import type { CommandResult } from "../../support/plugin-process.js";
import { kmsPkcs11, kmsPkcs11Ok } from "../harness/kms-pkcs11.js";
import { parallel } from "../harness/parallel.js";
import { record } from "../harness/report.js";
import { SoftHsmToken } from "../harness/softhsm-token.js";
import { parseStoredObject } from "../harness/stored-object.js";
import { createWidget, installWidgets, readWidget, WIDGETS } from "../harness/widget.js";

const SECRETS = 60;
/** The controller takes a minute or two until its cache has seen the latest revision of a resource. */
const LIMIT_MS = 240_000;
const name = (index: number): string => `s-${index}`;

let cluster: KmsCluster;
let node: Node;
let active: string;
let kubeconfig: string;
let controllers: ControllerManager | undefined;

beforeAll(async () => {
  const token = await SoftHsmToken.create();
  await token.makeKekOfPast(3);
  cluster = await KmsCluster.start(token, true);
  node = await cluster.startNode({
    resources: ["secrets", WIDGETS],
    apiserverArgs: [
      "--feature-gates=StorageVersionMigrator=true",
      "--runtime-config=storagemigration.k8s.io/v1beta1=true",
    ],
  });
  const { plugin, apiserver } = node;
  const { client } = apiserver;
  await parallel(SECRETS, 8, (index) => client.createSecret(NAMESPACE, name(index), name(index)));
  await installWidgets(client);
  await createWidget(client, NAMESPACE, "w", "a widget");
  await plugin.stop();
  await token.makeKekOfPast(1);
  await plugin.start();
  const status = await kmsPkcs11Ok(["status", "--socket", plugin.places.socket, "-o", "json"]);
  active = (JSON.parse(status) as { keyId: string }).keyId;
  kubeconfig = await apiserver.writeKubeconfig();
});

afterAll(async () => {
  await controllers?.stop();
  await cluster.stop();
});

async function migrate(...more: string[]): Promise<CommandResult> {
  const etcd = ["--endpoints", cluster.plane.etcd.endpoint, "--kubeconfig", kubeconfig];
  const what = ["--socket", node.plugin.places.socket, "--encryption-config", node.apiserver.encryptionFile];
  // The API server asks the plugin for its key_id once a minute, and when its health is requested.
  const asking = setInterval(() => void node.apiserver.get("/readyz").catch(() => undefined), 500);
  try {
    const args = ["etcd", "migrate", "--with", "svm", ...etcd, ...what, ...more, "-o", "json"];
    return await kmsPkcs11(args, {}, LIMIT_MS);
  } finally {
    clearInterval(asking);
  }
}

async function migrations(): Promise<unknown[]> {
  const path = "/apis/storagemigration.k8s.io/v1beta1/storageversionmigrations";
  const { status, body } = await node.apiserver.client.get(path);
  expect(status).toBe(200);
  return (JSON.parse(body) as { items: unknown[] }).items;
}

it("etcd migrate reports that no controller begins, and removes its request", async () => {
  const { code, stderr } = await migrate("--wait", "2s");
  expect([code, stderr]).toEqual([3, expect.stringContaining("no controller began")]);
  expect(await migrations()).toEqual([]);
});

it("etcd migrate makes Kubernetes rewrite every object under the active KEK", async () => {
  const wanted = ["storage-version-migrator-controller", "garbage-collector-controller"];
  controllers = await ControllerManager.start(node.apiserver, wanted, ["StorageVersionMigrator"]);
  const begun = performance.now();
  const { code, stdout, stderr } = await migrate();
  record("version-migration", "s with Kubernetes' controller", (performance.now() - begun) / 1000);
  const report = JSON.parse(stdout) as {
    rewritten: number;
    passes: number;
    failures: unknown[];
    after: { left: number };
  };
  expect([code, stderr, report.failures, report.after.left]).toEqual([0, "", [], 0]);
  expect(report.rewritten).toBeGreaterThan(SECRETS);
  record("version-migration", "objects rewritten", report.rewritten);
  record("version-migration", "passes", report.passes);
  expect(await migrations()).toEqual([]);
  const entries = await cluster.plane.etcd.store.list("/registry/secrets/");
  const keyIds = new Set(entries.map(({ value }) => parseStoredObject(value)?.keyId));
  expect(keyIds).toEqual(new Set([active]));
  const { client } = node.apiserver;
  for (let index = 0; index < SECRETS; index++) {
    expect((await client.readSecret(NAMESPACE, name(index))).toString()).toBe(name(index));
  }
  expect(await readWidget(client, NAMESPACE, "w")).toBe("a widget");
});
