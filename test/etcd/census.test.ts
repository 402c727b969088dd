// The census: what it counts, and that its memory is bounded whatever etcd contains.

import { describe, expect, it } from "vitest";
import { KmsError } from "../../src/errors.js";
import { Census, type CensusOptions } from "../../src/etcd/census.js";
import type { StoredObject } from "../../src/etcd/store.js";
import type { StoredValue } from "../../src/etcd/stored-object.js";

const PLAIN: StoredValue = { kind: "plaintext", encoding: "json", bytes: Buffer.from("{}") };

const sealed = (keyId: string, seed: string): StoredValue => ({
  kind: "kms-v2",
  providerName: "hsm",
  object: {
    encryptedData: Buffer.alloc(80),
    keyId,
    encryptedSeed: Buffer.from(seed),
    annotations: {},
    seedUse: "hkdf-sha256-seed",
  },
});
const other = (keyName: string): StoredValue => ({ kind: "other-provider", provider: "aescbc:v1", keyName });

let revision = 0;
const object = (key: string, value: StoredObject["value"]): StoredObject => {
  revision++;
  return { key: `/registry/${key}`, createRevision: revision, modRevision: revision, value };
};
const take = (objects: Iterable<StoredObject>, options: Partial<CensusOptions> = {}): Census => {
  const census = new Census({ prefix: "/registry", ...options });
  for (const one of objects) census.add(one);
  return census;
};

describe("the census", () => {
  it("the census counts by provider, key and key_id, with resources, namespaces and revisions", () => {
    revision = 0;
    const unreadable = new KmsError("INPUT_INVALID", "why");
    const {
      objects,
      usages,
      unreadable: samples,
    } = take([
      object("secrets/a/1", sealed("k1", "s")),
      object("secrets/b/1", sealed("k2", "s")),
      object("example.com/widgets/a/1", sealed("k1", "t")),
      object("secrets/a/2", sealed("k1", "s")),
      object("secrets/a/3", other("key1")),
      object("secrets/a/4", other("key2")),
      object("secrets/a/5", unreadable),
    ]).result();
    const counts = usages.map((one) => [one.provider, one.keyId, one.objects, one.seeds?.count]);
    expect(objects).toBe(7);
    expect(counts).toEqual([
      ["kms:v2:hsm", "k1", 3, 2],
      ["kms:v2:hsm", "k2", 1, 1],
      ["aescbc:v1:key1", null, 1, undefined],
      ["aescbc:v1:key2", null, 1, undefined],
      ["", null, 1, undefined],
    ]);
    expect(usages[0]).toMatchObject({
      resources: { secrets: 2, "widgets.example.com": 1 },
      namespaces: { count: 1, isAtLeast: false },
      oldestRevision: 1,
      newestRevision: 4,
    });
    expect(samples).toEqual([{ key: "/registry/secrets/a/5", reason: "why" }]);
  });

  it("the census distinguishes a bounded number of DEK seeds and namespaces over all keys", () => {
    const many = Array.from({ length: 30 }, (_, at) =>
      object(`secrets/ns-${at}/x`, sealed(`k${at % 2}`, `seed-${at}`)),
    );
    const { usages } = take([...many, ...many], { maxDistinct: 20 }).result();
    const counts = usages.map(({ objects, seeds, namespaces }) => [objects, seeds, namespaces]);
    const half = { count: 10, isAtLeast: true };
    expect(counts).toEqual([
      [30, half, half],
      [30, half, half],
    ]);
    const [one] = take(many.slice(0, 20), { maxDistinct: 20 }).result().usages;
    expect(one?.seeds).toEqual({ count: 10, isAtLeast: false });
  });

  it("the census fails if there are more keys or resources than any cluster has", () => {
    const keys = Array.from({ length: 10_001 }, (_, at) => object("secrets/a/x", other(String(at))));
    expect(() => take(keys)).toThrow("over 10000 keys: is this a cluster's etcd?");
    const resources = Array.from({ length: 100_001 }, (_, at) => object(`r${at}/a/x`, PLAIN));
    expect(() => take(resources)).toThrow("over 100000 resources");
  });
});
