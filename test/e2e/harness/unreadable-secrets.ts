// Secrets that nobody can decrypt, and what `etcd recover` needs to find and delete them.

import { writeFile } from "node:fs/promises";

import { storageKey } from "./etcd-store.js";
import { NAMESPACE, type KmsCluster, type Node } from "./kms-cluster.js";

/** Behind the provider's prefix, the HKDF info and the nonce. */
const DATA_AT = 100;

/** Makes those of the Secrets that are not stored, damages them, and writes a snapshot of etcd. */
export async function makeUnreadable(
  { plane: { etcd } }: KmsCluster,
  { apiserver }: Node,
  names: readonly string[],
  backup: string,
): Promise<void> {
  for (const name of names) {
    const key = storageKey("secrets", NAMESPACE, name);
    if ((await etcd.store.get(key)) !== undefined) continue;
    await apiserver.client.createSecret(NAMESPACE, name, "a value");
    const value = await etcd.store.get(key);
    if (value === undefined) throw new Error(`${key} is not stored`);
    value.writeUInt8(value.readUInt8(DATA_AT) ^ 1, DATA_AT);
    await etcd.store.put(key, value);
  }
  await writeFile(backup, await etcd.store.snapshot());
}

/** Returns the environment of a command that uses the token, etcd and the API server as an administrator. */
export async function administratorEnvironment(
  { token, plane }: KmsCluster,
  { apiserver }: Node,
): Promise<Record<string, string>> {
  return {
    ...token.env,
    KUBECONFIG: await apiserver.writeKubeconfig(),
    ETCDCTL_ENDPOINTS: plane.etcd.endpoint,
  };
}
