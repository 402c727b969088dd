// A node starts cold: the plugin and an API server that needs 1,000 DEK seeds start together, on an HSM with 2 ms in
// every call; with what the plugin remembers of its last run, and without.

import { rm } from "node:fs/promises";
import { join } from "node:path";

import { afterAll, beforeAll, expect, it } from "vitest";

import { KmsCluster, type Node } from "./harness/kms-cluster.js";
import { Plugin } from "./harness/plugin.js";
import { record } from "./harness/report.js";
import { countReadable, putSeededSecrets } from "./harness/seeded-secrets.js";
import { UnreliableToken } from "./harness/unreliable-token.js";
import { until } from "./harness/wait.js";

const SECTION = "cold start, 1,000 DEK seeds, 2 ms a call";
const SEEDS = 1_000;
const DELAY_MS = 2;
const PATIENCE = { timeoutMs: 120_000 };

let token: UnreliableToken;
let cluster: KmsCluster;
let node: Node;

beforeAll(async () => {
  token = await UnreliableToken.create();
  cluster = await KmsCluster.start(token);
  node = await cluster.startNode({ config: { cache: { entries: 2 * SEEDS } } });
  // Another node's plugin, so that this one has to decrypt every seed.
  const other = await Plugin.start({ token, name: "other" });
  await putSeededSecrets(cluster, other, { prefix: "seeded", count: SEEDS });
  await other.stop();
  await until("all is readable", async () => (await countReadable(node.apiserver)) === SEEDS, PATIENCE);
});

afterAll(async () => {
  await cluster.stop();
});

interface Start {
  /** From the launch of both processes to a complete LIST, in ms. */
  readonly listMs: number;
  /** Decrypt requests that needed the HSM, and those that were answered from memory. */
  readonly misses: number;
  readonly hits: number;
  readonly prefetched: number;
}

async function startTogether(): Promise<Start> {
  const { plugin, apiserver } = node;
  token.delay(DELAY_MS);
  const startedAt = performance.now();
  plugin.launch();
  apiserver.launch();
  await until("LIST is complete", async () => (await countReadable(apiserver)) === SEEDS, PATIENCE);
  const listMs = performance.now() - startedAt;
  const metrics = await plugin.metrics();
  token.delay(0);
  return {
    listMs,
    misses: metrics.sum("kms_pkcs11_cache_misses_total"),
    hits: metrics.sum("kms_pkcs11_cache_hits_total"),
    prefetched: metrics.sum("kms_pkcs11_working_set_prefetched_total"),
  };
}

async function stopBoth(): Promise<void> {
  await node.apiserver.stop();
  await node.plugin.stop();
}

it("a cold node needs the HSM for few requests if the plugin remembers its seeds", async () => {
  await stopBoth();
  const remembering = await startTogether();
  await stopBoth();
  await rm(join(node.plugin.places.stateFolder, "working-set"));
  const forgetful = await startTogether();

  for (const [how, start] of [["with", remembering] as const, ["without", forgetful] as const]) {
    record(SECTION, `${how} a working set: LIST complete after, ms`, start.listMs);
    record(SECTION, `${how} a working set: requests that needed the HSM`, start.misses);
    record(SECTION, `${how} a working set: seeds decrypted in advance`, start.prefetched);
  }
  expect(forgetful).toMatchObject({ prefetched: 0 });
  expect(forgetful.misses).toBeGreaterThanOrEqual(SEEDS);
  expect(remembering.misses).toBeLessThan(forgetful.misses / 4);
  expect(remembering.hits + remembering.misses).toBeGreaterThanOrEqual(SEEDS);
});
