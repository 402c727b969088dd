// Detects when an API server begins to encrypt under another KEK, from its metrics. An API server learns of a new KEK
// by Status: every 60 s, and when its /readyz is read and the last answer is older than 20 s. Here it is read every
// second, as the kubelet does on nodes that kubeadm made.

import { createHash } from "node:crypto";
import type { KubeApiserver } from "./kube-apiserver.js";
import { until } from "./wait.js";

const LIMIT_MS = 60_000;

/** Resolves when it has stored an object under the KEK, with the time of the observation in ms since the epoch. */
export async function changeOver(apiserver: KubeApiserver, keyId: string): Promise<number> {
  await until(
    `${apiserver.name} encrypts under ${keyId}`,
    async () => {
      await apiserver.get("/readyz");
      return hasStoredUnder(apiserver, keyId);
    },
    { timeoutMs: LIMIT_MS, intervalMs: 1_000 },
  );
  return Date.now();
}

async function hasStoredUnder(apiserver: KubeApiserver, keyId: string): Promise<boolean> {
  const labels = {
    transformation_type: "to_storage",
    key_id_hash: `sha256:${createHash("sha256").update(keyId).digest("hex")}`,
  };
  return (await apiserver.metrics()).sum("apiserver_envelope_encryption_key_id_hash_total", labels) > 0;
}
