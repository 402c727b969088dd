// `--with svm`: one StorageVersionMigration per resource, in the API version that the cluster serves.
import { afterEach, expect, it } from "vitest";

import { ApiResources } from "../../src/etcd/api-resources.js";
import type { Batch, EtcdStore } from "../../src/etcd/store.js";
import type { Survey } from "../../src/etcd/survey.js";
import { migrateByKubernetes } from "../../src/etcd/version-migration.js";
import { rangeResponse } from "../support/range-response.js";
import { StandInApi, type Answer, type Asked } from "./stand-in-api.js";

let standIn: StandInApi;

afterEach(async () => {
  await standIn.close();
});

const row = {
  resource: "deployments.apps",
  objects: 3,
  current: 0,
  stale: 3,
  clear: 0,
  aside: 0,
  unreadable: 0,
};
const before: Survey = { rows: [row], revision: 1, left: 3 };

const group = (name: string, version: string, resource: string): object => ({
  metadata: { name },
  versions: [{ version, resources: [{ resource, scope: "Namespaced", verbs: ["get", "patch"] }] }],
});

/** Runs the migration on a cluster that serves `version` and whose controller sets one of `conditions` per request. */
async function run(
  version: string | undefined,
  conditions: readonly string[],
  settleMs = 60_000,
  surveys: readonly string[][] = [],
) {
  const pending = [...conditions];
  const answer = ({ method, path }: Asked): Answer => {
    if (path === "/api" || path === "/apis") {
      const served =
        version === undefined ? [] : [group("storagemigration.k8s.io", version, "storageversionmigrations")];
      return {
        status: 200,
        body: { kind: "APIGroupDiscoveryList", items: [...served, group("apps", "v1", "deployments")] },
      };
    }
    if (method !== "GET") return { status: method === "POST" ? 201 : 200, body: { metadata: { name: "m" } } };
    const type = pending.shift();
    const status = type === undefined ? {} : { conditions: [{ type, status: "True", message: "why" }] };
    return { status: 200, body: { metadata: { name: "m" }, status } };
  };
  standIn = new StandInApi(answer);
  const api = await standIn.connect();
  // The objects in etcd after each pass; after the last one everything has been rewritten.
  const left = [...surveys];
  const store = {
    // eslint-disable-next-line @typescript-eslint/require-await
    async *batches(): AsyncGenerator<Batch> {
      const keys = (left.shift() ?? []).map((key) => Buffer.from(key));
      const bytes = rangeResponse(keys, keys.length, Buffer.from("{}"));
      if (keys.length > 0) yield { bytes, objects: keys.length };
    },
    revisions: { first: 9, last: 9 },
  } as unknown as EtcdStore;
  const aim = { keyId: "k", encrypts: () => true, providerOf: () => undefined };
  const signal = new AbortController().signal;
  try {
    const ports = { api, store, prefix: "/registry", resources: await ApiResources.discover(api) };
    return await migrateByKubernetes(ports, before, {
      aim,
      settleMs,
      concurrency: 2,
      signal,
      observer: { handled: () => undefined, surveys: () => ({}) },
    });
  } finally {
    api.close();
  }
}

const made = (): unknown => standIn.asked.find(({ method }) => method === "POST")?.body;
const removed = (): boolean => standIn.asked.some(({ method }) => method === "DELETE");

it.each([
  ["v1", { group: "apps", resource: "deployments" }],
  ["v1beta1", { group: "apps", resource: "deployments" }],
  ["v1alpha1", { group: "apps", resource: "deployments", version: "v1" }],
])("a StorageVersionMigration of %s is created, and removed after success", async (version, resource) => {
  expect(await run(version, ["Running", "Succeeded"])).toMatchObject({ rewritten: 3, failures: [] });
  expect(made()).toMatchObject({ apiVersion: `storagemigration.k8s.io/${version}`, spec: { resource } });
  expect(removed()).toBe(true);
});

it("another StorageVersionMigration is created while objects stay under the previous key", async () => {
  const stale = "/registry/deployments/a/b";
  expect(await run("v1beta1", ["Succeeded", "Succeeded"], 500, [[stale]])).toMatchObject({
    passes: 2,
    rewritten: 3,
    after: { left: 0 },
  });
  await standIn.close();
  expect(await run("v1beta1", ["Succeeded"], 0, [[stale]])).toMatchObject({
    passes: 1,
    rewritten: 2,
    after: { left: 1 },
  });
});

it("the reason of a failed StorageVersionMigration is reported", async () => {
  expect((await run("v1beta1", ["Failed"])).failures).toEqual([
    { resource: "deployments.apps", reason: "why", objects: 3, example: "" },
  ]);
});

it("if no controller begins, the migration ends and removes its StorageVersionMigration", async () => {
  await expect(run("v1beta1", [], 0)).rejects.toThrow(/no controller began .* kube-controller-manager/);
  expect(removed()).toBe(true);
});

it("a cluster that does not serve StorageVersionMigrations is reported", async () => {
  await expect(run(undefined, [])).rejects.toThrow(/does not serve storagemigration\.k8s\.io .* omit --with/);
});
