// Three API servers, each with its own plugin, share one etcd and one token: each can read at once what another writes.
// E2E_SOAK_SECONDS sets the duration.

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { KmsCluster, NAMESPACE, type Node } from "./harness/kms-cluster.js";
import { Load } from "./harness/load.js";
import { record } from "./harness/report.js";
import { parseStoredObject } from "./harness/stored-object.js";
import { until } from "./harness/wait.js";

const SECONDS = Number(process.env["E2E_SOAK_SECONDS"] ?? "30");
const EXTRA_MS = 120_000;

let cluster: KmsCluster;
let nodes: Node[];

beforeAll(async () => {
  cluster = await KmsCluster.start();
  nodes = [await cluster.startNode(), await cluster.startNode(), await cluster.startNode()];
  await readEachSeedOnce();
});

/**
 * Lets each API server read one Secret of each other, one read at a time. kube-apiserver does not combine concurrent
 * reads under a seed that it does not know yet: each of them would call Decrypt.
 */
async function readEachSeedOnce(): Promise<void> {
  for (const [index, { apiserver }] of nodes.entries()) {
    await apiserver.client.createSecret(NAMESPACE, `first-${index}`, "value");
  }
  for (const { apiserver } of nodes) {
    for (const index of nodes.keys()) await apiserver.client.readSecret(NAMESPACE, `first-${index}`);
  }
}

afterAll(async () => {
  await cluster.stop();
});

describe("three API servers with a plugin each", () => {
  it(
    "write and read each other's objects, while the plugins are restarted one after the other",
    async () => {
      const load = Load.start(
        nodes.map(({ apiserver }) => apiserver.client),
        NAMESPACE,
      );
      const begun = Date.now();
      for (const [index, { plugin }] of nodes.entries()) {
        const at = ((index + 1) / (nodes.length + 1)) * SECONDS * 1000;
        await until("the next restart's time", () => Date.now() - begun > at, { timeoutMs: SECONDS * 1000 });
        await plugin.restart();
      }
      await until("the time is over", () => Date.now() - begun > SECONDS * 1000, {
        timeoutMs: SECONDS * 1000 + EXTRA_MS,
      });
      await load.stop();

      record(
        "three API servers",
        "seconds, writes, reads by another, failures",
        [SECONDS, load.written, load.read, load.failures.length].join(", "),
      );
      record("three API servers", "ms of a write", load.writeSummary());
      expect(load.failures).toEqual([]);
      expect(load.read).toBe(load.written);
      for (const { apiserver } of nodes) expect(await load.verify(apiserver.client)).toBe(load.written);
    },
    SECONDS * 1000 + EXTRA_MS,
  );

  it("three API servers encrypt under one key_id, each with its own DEK seed", async () => {
    const entries = await cluster.plane.etcd.store.list("/registry/secrets/");
    const objects = entries.flatMap((entry) => parseStoredObject(entry.value) ?? []);
    expect(objects).toHaveLength(entries.length);
    expect(new Set(objects.map(({ keyId }) => keyId)).size).toBe(1);
    const seeds = new Set(objects.map((object) => object.encryptedDekSource.toString("base64"))).size;
    expect(seeds).toBe(nodes.length);
    const calls = await Promise.all(
      nodes.map(async ({ apiserver }) => [
        await apiserver.kmsCalls("Encrypt"),
        await apiserver.kmsCalls("Decrypt"),
      ]),
    );
    record(
      "three API servers",
      "Encrypt calls, Decrypt calls of each",
      calls.map((each) => each.join(", ")).join("; "),
    );
    // Each encrypts only its own seed, and asks for the seed of each other: once, or twice if the first read and the
    // watch cache meet the seed at the same time.
    for (const [encrypts, decrypts] of calls) {
      expect(encrypts).toBe(1);
      expect(decrypts).toBeGreaterThanOrEqual(nodes.length - 1);
      expect(decrypts).toBeLessThanOrEqual(2 * (nodes.length - 1));
    }
  });
});
