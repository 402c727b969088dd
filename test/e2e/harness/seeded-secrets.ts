// Secrets that are each under a DEK seed of their own, as after a thousand starts of API servers: a plugin encrypts the
// seeds, and the objects are written to etcd directly.

import { newSeeds, sealedValue } from "../../support/stored-secrets.js";
import { storageKey } from "./etcd-store.js";
import { NAMESPACE, type KmsCluster } from "./kms-cluster.js";
import type { KubeApiserver } from "./kube-apiserver.js";
import type { Plugin } from "./plugin.js";

/** Writes Secrets `<prefix>-0` and following, one per seed, that hold their name under `value`. */
export async function putSeededSecrets(
  cluster: KmsCluster,
  plugin: Plugin,
  { prefix, count }: { readonly prefix: string; readonly count: number },
): Promise<void> {
  const seeds = await newSeeds(plugin.places.socket, count);
  const entries = seeds.map((seed, index): [string, Buffer] => {
    const name = `${prefix}-${index}`;
    const key = storageKey("secrets", NAMESPACE, name);
    return [key, sealedValue(seed, key, secretJson(name))];
  });
  await cluster.plane.etcd.store.putAll(entries);
}

/** Returns the number of Secrets in the tests' namespace whose value is their name. @throws Error if the LIST fails */
export async function countReadable({ client }: KubeApiserver): Promise<number> {
  const { items } = await client.core.listNamespacedSecret({ namespace: NAMESPACE });
  return items.filter(({ metadata, data }) => {
    return Buffer.from(data?.["value"] ?? "", "base64").toString() === metadata?.name;
  }).length;
}

/** Returns a Secret in JSON, which kube-apiserver also reads from etcd. It holds its name under `value`. */
export function secretJson(name: string): string {
  const metadata = {
    name,
    namespace: NAMESPACE,
    uid: crypto.randomUUID(),
    creationTimestamp: new Date().toISOString(),
  };
  const data = { value: Buffer.from(name).toString("base64") };
  return JSON.stringify({ apiVersion: "v1", kind: "Secret", metadata, data, type: "Opaque" });
}
