// The HSM is away for 26 hours, with an hour scaled down to a second: the cache's TTL, its outage TTL and the outage
// keep their proportions. An API server restarts meanwhile, and then the plugin too.

import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { KmsClient } from "../../src/kms-client/kms-client.js";
import { parseStoredObject } from "./harness/stored-object.js";
import { storageKey } from "./harness/etcd-store.js";
import { KmsCluster, NAMESPACE, type Node } from "./harness/kms-cluster.js";
import { Plugin } from "./harness/plugin.js";
import { record } from "./harness/report.js";
import { countReadable, putSeededSecrets } from "./harness/seeded-secrets.js";
import { UnreliableToken } from "./harness/unreliable-token.js";
import { until } from "./harness/wait.js";

const SECTION = "HSM away for 26 h, an hour scaled to a second";
const HOUR_MS = 1_000;
const OUTAGE_MS = 26 * HOUR_MS;
const RESTART_AFTER_MS = 13 * HOUR_MS;
/** Secrets from the time before mode local-kek, each under a seed of its own. */
const SEEDED = 20;

let token: UnreliableToken;
let cluster: KmsCluster;
let node: Node;
let secrets = SEEDED;

beforeAll(async () => {
  token = await UnreliableToken.create();
  cluster = await KmsCluster.start(token);
  const earlier = await Plugin.start({ token, name: "earlier" });
  node = await cluster.startNode({
    mode: "local-kek",
    config: {
      cache: { ttl: "1s", outageTtl: "48s" },
      keys: { refreshInterval: "100ms" },
      health: { proofInterval: "100ms", outageGracePeriod: "200ms", onHsmLoss: "keepWriting" },
    },
  });
  await putSeededSecrets(cluster, earlier, { prefix: "seeded", count: SEEDED });
  await earlier.stop();
  await write();
  await until("all is readable", isAllReadable);
});

afterAll(async () => {
  await cluster.stop();
});

async function write(): Promise<void> {
  const name = `written-${secrets++}`;
  await node.apiserver.client.createSecret(NAMESPACE, name, name);
}

const isAllReadable = async (): Promise<boolean> => (await countReadable(node.apiserver)) === secrets;

async function expectAllReadable(): Promise<void> {
  expect(await countReadable(node.apiserver)).toBe(secrets);
}

async function pluginMetric(name: string): Promise<number> {
  return (await node.plugin.metrics()).sum(`kms_pkcs11_${name}`);
}

async function loseHsm(): Promise<void> {
  token.goAway();
  await until("the plugin reports it", async () => (await pluginMetric("hsm_up")) === 0);
}

async function regainHsm(): Promise<void> {
  token.comeBack();
  await until("the plugin is ready", async () => (await node.plugin.get("/readyz")).status === 200, {
    timeoutMs: 60_000,
  });
}

/** Asks the plugin for the seed of a stored Secret, as a restarted API server does. */
async function askForSeedOf(name: string): Promise<string> {
  const value = await cluster.plane.etcd.store.get(storageKey("secrets", NAMESPACE, name));
  const object = value && parseStoredObject(value);
  if (object === undefined) throw new Error(`${name} is not stored by KMS v2`);
  const client = new KmsClient(node.plugin.places.socket);
  const { encryptedDekSource: ciphertext, keyId, annotations } = object;
  return client
    .decrypt({ ciphertext, keyId, annotations: { ...annotations } }, "e2e")
    .then(() => "read", String)
    .finally(() => {
      client.close();
    });
}

describe("the HSM is away for a day", () => {
  it("no read fails although an API server restarts; the seeds are renewed afterwards", async () => {
    await loseHsm();
    const away = performance.now();
    let reads = 0;
    const readUntil = async (ms: number): Promise<void> => {
      do {
        await expectAllReadable();
        expect(await askForSeedOf(`seeded-${reads++ % SEEDED}`)).toBe("read");
      } while (performance.now() - away < ms);
    };
    await readUntil(RESTART_AFTER_MS);
    await node.apiserver.stop();
    node.apiserver.launch();
    // Its /readyz names the HSM, but it serves.
    await until("the restarted API server reads all", isAllReadable);
    record(SECTION, "API server restarted, LIST complete at, s", (performance.now() - away) / HOUR_MS);
    await readUntil(OUTAGE_MS);
    await write();
    await readUntil(OUTAGE_MS);
    record(SECTION, "LIST and Decrypt calls during the outage, each", reads);
    const renewed = await pluginMetric("cache_renewals_total");
    await regainHsm();
    await until("the seeds are proved again", async () => {
      return (await pluginMetric("cache_renewals_total")) >= renewed + SEEDED;
    });
    await expectAllReadable();
  });

  it("if the plugin restarts too, a running API server reads; Decrypt fails with the reason", async () => {
    await loseHsm();
    await node.plugin.stop();
    node.plugin.launch();
    await until("the plugin reports the HSM", async () => {
      return /token|CKR_|HSM/.test((await node.plugin.get("/readyz")).body);
    });
    await expectAllReadable();
    for (const name of ["seeded-0", `written-${SEEDED}`]) {
      const answer = await askForSeedOf(name);
      expect(answer).toMatch(/UNAVAILABLE.*(token|CKR_|HSM)/);
      record(SECTION, `plugin restarted too: Decrypt for ${name}`, answer);
    }
    await expectAllReadable();
    await regainHsm();
    await node.apiserver.restart();
    await expectAllReadable();
    for (const name of ["seeded-0", `written-${SEEDED}`]) expect(await askForSeedOf(name)).toBe("read");
  });
});
