// The harness by itself, without the plugin: a real etcd and kube-apiserver with Kubernetes' built-in encryption
// providers.

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { V1Pod } from "@kubernetes/client-node";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parse } from "yaml";
import { ControlPlane } from "./harness/control-plane.js";
import { aescbcProvider, identityProvider } from "./harness/encryption-configuration.js";
import { storageKey } from "./harness/etcd-store.js";
import type { KubeApiserver } from "./harness/kube-apiserver.js";
import { parallel } from "./harness/parallel.js";
import { record } from "./harness/report.js";
import { formatStoredObject, parseStoredObject } from "./harness/stored-object.js";
import { createWidget, installWidgets, readWidget, WIDGETS, widgetKey } from "./harness/widget.js";

const aescbc = aescbcProvider();
const resources = ["secrets", "configmaps", WIDGETS];
const STATIC_POD = fileURLToPath(new URL("../../deploy/static-pod/kms-pkcs11.yaml", import.meta.url));
const SYSTEM_NODE_CRITICAL = 2_000_001_000;
const value = "correct horse battery staple";

let plane: ControlPlane;
let apiserver: KubeApiserver;

beforeAll(async () => {
  const begun = performance.now();
  plane = await ControlPlane.start();
  record("harness", "etcd, start to healthy, ms", performance.now() - begun);
  apiserver = await plane.addApiserver({
    encryption: [{ resources, providers: [aescbc, identityProvider] }],
  });
  record("harness", "kube-apiserver, first start to ready, ms", await apiserver.start());
  await apiserver.client.createNamespace("e2e");
});

afterAll(async () => {
  await plane.stop();
});

describe("a control plane with the aescbc provider", () => {
  it("the control plane reports the chosen version", async () => {
    expect(await apiserver.version()).toMatch(/^v1\.\d+\.\d+$/);
  });

  it("the control plane stores resources of each kind encrypted and reads them back", async () => {
    const { client } = apiserver;
    await installWidgets(client);
    await client.createSecret("e2e", "one", value);
    await client.createConfigMap("e2e", "one", value);
    await createWidget(client, "e2e", "one", value);

    for (const key of [
      storageKey("secrets", "e2e", "one"),
      storageKey("configmaps", "e2e", "one"),
      widgetKey("e2e", "one"),
    ]) {
      const stored = await plane.etcd.store.get(key);
      expect(stored?.toString("latin1"), key).toMatch(/^k8s:enc:aescbc:v1:key1:/);
    }
    expect(await plane.etcd.filesHolding(Buffer.from(value))).toEqual([]);
    expect((await client.readSecret("e2e", "one")).toString()).toBe(value);
    expect(await client.readConfigMap("e2e", "one")).toBe(value);
    expect(await readWidget(client, "e2e", "one")).toBe(value);
  });

  it("the control plane creates 500 Secrets, which are counted in etcd", async () => {
    const begun = performance.now();
    await parallel(500, 8, (index) => apiserver.client.createSecret("e2e", `many-${index}`, value));
    record("harness", "Secrets created per s, 8 at a time", 500 / ((performance.now() - begun) / 1000));
    expect(await plane.etcd.store.count("/registry/secrets/e2e/many-")).toBe(500);
  });

  it("the control plane reads back after a restart of the API server and of etcd", async () => {
    record("harness", "kube-apiserver, restart to ready, ms", await apiserver.restart());
    expect((await apiserver.client.readSecret("e2e", "one")).toString()).toBe(value);
    await plane.etcd.restart();
    expect((await apiserver.client.readSecret("e2e", "one")).toString()).toBe(value);
  });

  it("the control plane fails to read only what was changed in etcd", async () => {
    const { client } = apiserver;
    const { store } = plane.etcd;
    await client.createSecret("e2e", "tampered", value);
    const key = storageKey("secrets", "e2e", "tampered");
    const stored = (await store.get(key)) ?? Buffer.alloc(0);
    await store.put(key, stored.subarray(0, -1));
    await expect(client.readSecret("e2e", "tampered")).rejects.toMatchObject({ code: 500 });
    expect((await client.readSecret("e2e", "one")).toString()).toBe(value);
    await store.put(key, stored);
    expect((await client.readSecret("e2e", "tampered")).toString()).toBe(value);
  });

  it("a second API server reads what the first one wrote", async () => {
    const second = await plane.startApiserver({
      encryption: [{ resources, providers: [aescbc, identityProvider] }],
    });
    expect((await second.client.readSecret("e2e", "one")).toString()).toBe(value);
    await second.stop();
  });

  it("after a return to identity new writes are in clear, and a rewrite decrypts the rest", async () => {
    await apiserver.writeEncryption([{ resources, providers: [identityProvider, aescbc] }]);
    await apiserver.restart();
    expect(await apiserver.client.rewriteSecrets()).toBe(502);
    const secrets = await plane.etcd.store.list("/registry/secrets/");
    expect(secrets.filter((entry) => !entry.value.subarray(0, 4).equals(Buffer.from("k8s\0")))).toEqual([]);
    expect(await plane.etcd.filesHolding(Buffer.from(value))).not.toEqual([]);
  });

  it("the control plane serves its metrics", async () => {
    const metrics = await apiserver.metrics();
    expect(await apiserver.kmsCalls("Encrypt")).toBe(0); // no KMS provider here
    expect(metrics.sum("apiserver_storage_transformation_operations_total")).toBeGreaterThan(0);
    expect(metrics.select("kubernetes_build_info")[0]?.labels["git_version"]).toBe(await apiserver.version());
  });
});

describe("a stored KMS v2 object", () => {
  it("a stored KMS v2 object is parsed and formatted to the same bytes", () => {
    const object = {
      provider: "hsm",
      encryptedData: Buffer.alloc(300, 7),
      keyId: "a-key",
      encryptedDekSource: Buffer.alloc(48, 9),
      annotations: { "mode.kms-pkcs11.dev": Buffer.from("1") },
      encryptedDekSourceType: 1,
    };
    expect(parseStoredObject(formatStoredObject(object))).toEqual(object);
    expect(parseStoredObject(Buffer.from("k8s:enc:aescbc:v1:key1:x"))).toBeUndefined();
  });

  it("an API server accepts the static pod of deploy/ with strict field validation", async () => {
    const { client } = apiserver;
    const namespace = "kube-system";
    // kube-controller-manager would have created it.
    await client.createServiceAccount(namespace, "default");
    const body = parse(readFileSync(STATIC_POD, "utf8")) as V1Pod;
    const pod = await client.core.createNamespacedPod({
      namespace,
      body,
      dryRun: "All",
      fieldValidation: "Strict",
    });
    expect(pod.spec?.priority).toBe(SYSTEM_NODE_CRITICAL);
  });
});
