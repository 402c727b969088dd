// The API object that an etcd key belongs to.
import { describe, expect, it } from "vitest";
import { normalPrefix, parseStorageKey, resourceName } from "../../src/etcd/storage-key.js";

const describeKey = (key: string, prefix = "/registry"): string | undefined => {
  const name = parseStorageKey(key, prefix);
  return name && [resourceName(name), name.namespace ?? "-", name.name].join(" ");
};

describe("a storage key", () => {
  it.each([
    ["/registry/secrets/default/db", "secrets default db"],
    ["/registry/deployments/default/web", "deployments.apps default web"],
    ["/registry/constructor/a/b", "constructor a b"],
    ["/registry/minions/node-1", "nodes - node-1"],
    ["/registry/services/specs/default/web", "services default web"],
    ["/registry/services/endpoints/default/web", "endpoints default web"],
    ["/registry/ingress/default/web", "ingresses.networking.k8s.io default web"],
    ["/registry/example.com/widgets/default/w", "widgets.example.com default w"],
    ["/registry/example.com/gadgets/g", "gadgets.example.com - g"],
    ["/registry/apiregistration.k8s.io/apiservices/v1.", "apiservices.apiregistration.k8s.io - v1."],
  ])("a storage key names its object: %s", (key, name) => {
    expect(describeKey(key)).toBe(name);
  });

  it('a storage key of a core resource has the group "", of an unknown resource none', () => {
    expect(parseStorageKey("/registry/secrets/a/b", "/registry")?.group).toBe("");
    expect(parseStorageKey("/registry/novelties/a", "/registry")?.group).toBeUndefined();
  });

  it.each([
    "/registry/secrets",
    "/registry//x",
    "/registry/secrets/a/",
    "/registry/a/b/c/d",
    "/registry/ranges/serviceips",
    "/other/secrets/a/b",
    "/registry/__proto__/a",
    "/registry/secrets\nforged/a/b",
    "/registry/example.com/\u001b[2J/a/b",
    "/registry/a.\u001b[2J/widgets/a/b",
  ])("a storage key that does not belong to an object is not parsed: %s", (key) => {
    expect(describeKey(key)).toBeUndefined();
  });

  it("a storage key is parsed under any prefix, with or without slashes at its ends", () => {
    expect(["k8s", "/k8s", "k8s/", "//k8s//"].map(normalPrefix)).toEqual(Array(4).fill("/k8s/"));
    expect(["", "/"].map(normalPrefix)).toEqual(["/", "/"]);
    expect(describeKey("/a/b/secrets/ns/db", "a/b")).toBe("secrets ns db");
    expect(describeKey("/secrets/ns/db", "/")).toBe("secrets ns db");
    expect(describeKey("/registry/secrets/ns/db", "/registry/secrets/ns/")).toBe("secrets ns db");
  });
});
