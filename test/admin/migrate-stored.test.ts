// A migration that is interrupted while etcd is still being read: nothing is rewritten afterwards.

import { expect, it } from "vitest";
import type { LiveEtcd } from "../../src/admin/etcd-source.js";
import { migrateStored } from "../../src/admin/migrate-stored.js";
import type { Batch, EtcdStore, StoredObject } from "../../src/etcd/store.js";
import { StandInApi, type Answer, type Asked } from "../etcd/stand-in-api.js";
import { silentOperator } from "../support/operator.js";
import { rangeResponse } from "../support/range-response.js";

const KEY = "/registry/secrets/one/a";
const stored: StoredObject = {
  key: KEY,
  createRevision: 1,
  modRevision: 7,
  value: { kind: "plaintext", encoding: "json", bytes: Buffer.from("{}") },
};
const secrets = { resource: "secrets", scope: "Namespaced", verbs: ["get", "patch"] };

/** An API server of the same cluster. */
function answer({ path }: Asked): Answer {
  const items =
    path === "/api" ? [{ metadata: {}, versions: [{ version: "v1", resources: [secrets] }] }] : [];
  if (path === "/api" || path === "/apis") {
    return { status: 200, body: { kind: "APIGroupDiscoveryList", items } };
  }
  return { status: 200, body: { metadata: { resourceVersion: String(stored.modRevision) } } };
}

/** An etcd with one object in clear. @param onRead called when all objects are being read */
function etcdWith(onRead: () => void): LiveEtcd {
  const store = {
    /* eslint-disable @typescript-eslint/require-await */
    async *batches(): AsyncGenerator<Batch> {
      onRead();
      yield { bytes: rangeResponse([Buffer.from(KEY)], 1, Buffer.from("{}")), objects: 1 };
    },
    async *objects(): AsyncGenerator<StoredObject> {
      yield stored;
    },
    /* eslint-enable @typescript-eslint/require-await */
    object: (key: string) => Promise.resolve(key === KEY ? stored : undefined),
    revisions: { first: 7, last: 7 },
  } as unknown as EtcdStore;
  const source: LiveEtcd["source"] = { kind: "etcd", endpoints: [], clusterId: "1", etcdVersion: "3" };
  return { source, store: () => store };
}

/** Migrates. Returns the error's code, if there is one, and the number of objects that the API server was to rewrite. */
async function migrateWith(isInterrupted: boolean): Promise<[string | undefined, number]> {
  const standIn = new StandInApi(answer);
  const api = await standIn.connect();
  const controller = new AbortController();
  const etcd = etcdWith(() => {
    if (isInterrupted) controller.abort();
  });
  try {
    const code = await migrateStored(etcd, {
      api,
      keyId: "k",
      prefix: "/registry/",
      resources: "secrets",
      rate: 100,
      concurrency: 1,
      settleMs: 0,
      means: "patches",
      dryRun: false,
      skipClusterCheck: false,
      signal: controller.signal,
      operator: silentOperator(),
      observer: { handled: () => undefined, surveys: () => ({}), end: () => undefined },
    }).then(
      () => undefined,
      (error: unknown) => (error as { code: string }).code,
    );
    return [code, standIn.asked.filter(({ method }) => method === "PATCH").length];
  } finally {
    api.close();
    await standIn.close();
  }
}

it("a migration has an object in clear rewritten", async () => {
  expect(await migrateWith(false)).toEqual([undefined, 1]);
});

it("a migration that is interrupted during its first survey rewrites nothing", async () => {
  expect(await migrateWith(true)).toEqual(["CANCELLED", 0]);
});
