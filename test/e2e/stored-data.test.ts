// What the API server stores through the plugin, for every resource, and how many calls its restart costs.

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { storageKey, type StoredEntry } from "./harness/etcd-store.js";
import { KmsCluster, NAMESPACE, type Node } from "./harness/kms-cluster.js";
import { parallel } from "./harness/parallel.js";
import { record } from "./harness/report.js";
import { parseStoredObject } from "./harness/stored-object.js";
import { createWidget, installWidgets, readWidget, widgetKey } from "./harness/widget.js";

const SECRETS = 1_000;
const CONFIG_MAPS = 100;
const WIDGETS = 100;
const LANES = 8;
const value = "a value that must not be found in clear";
const valueOf = (index: number): string => `${value} ${index}`;

let cluster: KmsCluster;
let node: Node;

beforeAll(async () => {
  cluster = await KmsCluster.start();
  node = await cluster.startNode({ resources: ["*.*"] });
});

afterAll(async () => {
  await cluster.stop();
});

/** Returns all entries, except those that are never encrypted: the registrations and addresses of API servers. */
async function encryptedEntries(): Promise<StoredEntry[]> {
  const entries = await cluster.plane.etcd.store.list("/registry/");
  return entries.filter((entry) => parseStoredObject(entry.value) !== undefined);
}

async function distinctSeeds(): Promise<number> {
  const seeds = (await encryptedEntries()).map(
    (entry) => parseStoredObject(entry.value)?.encryptedDekSource.toString("base64") ?? "",
  );
  return new Set(seeds).size;
}

describe("everything under *.*, through the plugin", () => {
  it("an API server stores a Secret as KMS v2, nowhere in clear, and reads it back", async () => {
    const { client } = node.apiserver;
    await client.createSecret(NAMESPACE, "one", value);
    const stored = await cluster.plane.etcd.store.get(storageKey("secrets", NAMESPACE, "one"));
    expect(stored?.toString("latin1")).toMatch(/^k8s:enc:kms:v2:hsm:/);
    const object = parseStoredObject(stored ?? Buffer.alloc(0));
    const { activeKeyId } = (await node.plugin.keys()) as { activeKeyId: string };
    expect(object).toMatchObject({ provider: "hsm", keyId: activeKeyId, encryptedDekSourceType: 1 });
    expect((await client.readSecret(NAMESPACE, "one")).toString()).toBe(value);
    record("stored data", "bytes of a Secret that are the plugin's", object?.encryptedDekSource.length ?? 0);
  });

  it("an API server stores 1,000 Secrets, ConfigMaps and a custom resource", async () => {
    const { client } = node.apiserver;
    await installWidgets(client);
    const begun = performance.now();
    await parallel(SECRETS, LANES, (index) => client.createSecret(NAMESPACE, `s-${index}`, valueOf(index)));
    record("stored data", "Secrets created per s", SECRETS / ((performance.now() - begun) / 1000));
    await parallel(CONFIG_MAPS, LANES, (index) =>
      client.createConfigMap(NAMESPACE, `c-${index}`, valueOf(index)),
    );
    await parallel(WIDGETS, LANES, (index) => createWidget(client, NAMESPACE, `w-${index}`, valueOf(index)));

    const stored = [
      ...(await cluster.plane.etcd.store.list(storageKey("secrets", NAMESPACE, "s-"))),
      ...(await cluster.plane.etcd.store.list(storageKey("configmaps", NAMESPACE, "c-"))),
      ...(await cluster.plane.etcd.store.list(widgetKey(NAMESPACE, "w-"))),
    ];
    expect(stored).toHaveLength(SECRETS + CONFIG_MAPS + WIDGETS);
    expect(stored.filter((entry) => parseStoredObject(entry.value)?.provider !== "hsm")).toEqual([]);
    expect(await cluster.plane.etcd.filesHolding(Buffer.from(value))).toEqual([]);
    expect(await cluster.plane.etcd.filesHolding(Buffer.from(Buffer.from(value).toString("base64")))).toEqual(
      [],
    );
    record("stored data", "objects stored encrypted under *.*", (await encryptedEntries()).length);
    record("stored data", "Encrypt calls for them", await node.apiserver.kmsCalls("Encrypt"));
  });

  it("a restarted API server calls Decrypt once per DEK seed and reads everything back", async () => {
    for (let restart = 1; restart <= 3; restart++) {
      await node.apiserver.stop();
      const seeds = await distinctSeeds();
      const readyMs = await node.apiserver.start();
      await expectAllReadable();
      // Watch caches that start together may ask for one seed at the same time: the API server does not combine these
      // calls.
      const calls = await node.apiserver.kmsCalls("Decrypt");
      expect(calls).toBeGreaterThanOrEqual(seeds);
      // The plugin has encrypted these seeds itself and knows them: no call needs the HSM.
      expect((await node.plugin.metrics()).sum("kms_pkcs11_cache_misses_total")).toBe(0);
      expect(await node.apiserver.kmsCalls("Encrypt")).toBe(1);
      const what = `restart ${restart}: DEK seeds stored, Decrypt calls, ms to ready`;
      record("API server restart", what, [seeds, calls, readyMs].join(", "));
      // Creates objects under this start's own seed, which the next restart counts.
      await node.apiserver.client.createSecret(NAMESPACE, `restart-${restart}`, value);
    }
  });
});

async function expectAllReadable(): Promise<void> {
  const { client } = node.apiserver;
  const secrets = await client.core.listNamespacedSecret({ namespace: NAMESPACE });
  const read = new Map(secrets.items.map((item) => [item.metadata?.name, item.data?.["value"] ?? ""]));
  for (let index = 0; index < SECRETS; index++) {
    expect(Buffer.from(read.get(`s-${index}`) ?? "", "base64").toString()).toBe(valueOf(index));
  }
  const maps = await client.core.listNamespacedConfigMap({ namespace: NAMESPACE });
  expect(maps.items.filter((item) => item.data?.["value"]?.startsWith(value))).toHaveLength(CONFIG_MAPS);
  await parallel(WIDGETS, LANES, async (index) => {
    expect(await readWidget(client, NAMESPACE, `w-${index}`)).toBe(valueOf(index));
  });
}
