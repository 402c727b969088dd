// The API path of an object in etcd. A key whose name no API object can have leads to no path.

import { expect, it } from "vitest";

import { ApiResources } from "../../src/etcd/api-resources.js";
import { parseStorageKey } from "../../src/etcd/storage-key.js";
import { StandInApi } from "./stand-in-api.js";

const SECRETS = { resource: "secrets", scope: "Namespaced", verbs: ["get", "patch"] };

it("an etcd key leads to the path of its own object and never to another object", async () => {
  const kind = "APIGroupDiscoveryList";
  const core = { metadata: { name: "" }, versions: [{ version: "v1", resources: [SECRETS] }] };
  const standIn = new StandInApi(({ path }) => ({
    status: 200,
    body: { kind, items: path === "/api" ? [core] : [] },
  }));
  try {
    const api = await standIn.connect();
    const resources = await ApiResources.discover(api);
    api.close();
    const pathOf = (key: string) => {
      const object = parseStorageKey(key, "/registry");
      return object && resources.pathOf(object);
    };
    expect(pathOf("/registry/secrets/a/b?c#d")).toEqual({
      path: "/api/v1/namespaces/a/secrets/b%3Fc%23d",
    });
    for (const key of ["/registry/secrets/../b", "/registry/secrets/a/..", "/registry/secrets/a/."]) {
      expect(pathOf(key)).toEqual({ reason: "the API has no object of this name" });
    }
  } finally {
    await standIn.close();
  }
});

it("a resource that the API lists, but does not patch, is found for listing only", async () => {
  const logs = { resource: "logs", scope: "Namespaced", verbs: ["get", "list"] };
  const core = { metadata: { name: "" }, versions: [{ version: "v1", resources: [logs] }] };
  const standIn = new StandInApi(({ path }) => ({
    status: 200,
    body: { kind: "APIGroupDiscoveryList", items: path === "/api" ? [core] : [] },
  }));
  try {
    const api = await standIn.connect();
    const resources = await ApiResources.discover(api);
    api.close();
    const name = { group: "", resource: "logs" };
    expect(resources.find(name, "list")).toMatchObject({ version: "v1" });
    expect(resources.find(name, "patch")).toEqual({ reason: "the API does not allow patching it" });
  } finally {
    await standIn.close();
  }
});
