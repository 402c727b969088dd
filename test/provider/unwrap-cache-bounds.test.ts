// New bounds for a cache that is in use.
import { expect, it } from "vitest";
import { UnwrapCache, type NamedSeed } from "../../src/provider/unwrap-cache.js";

let evicted = 0;
const observer = {
  cacheHit: () => undefined,
  cacheMiss: () => undefined,
  cacheEvicted: () => {
    evicted++;
  },
};
const build = (): UnwrapCache => new UnwrapCache({ entries: 3, ttlMs: 60_000, observer });
const seed = (name: string, keyId: string): NamedSeed => ({
  name,
  keyId,
  question: { keyId, ciphertext: Buffer.from(name), annotations: {} },
});

it("a cache that gets smaller keeps the entries requested last, and zeroes the others", () => {
  const cache = build();
  const plaintexts = ["a", "b", "c"].map((name) => ({ name, own: Buffer.from(name) }));
  for (const { name, own } of plaintexts) cache.add(seed(name, "k"), own);
  expect(cache.peek("a")?.toString()).toBe("a");
  cache.setBounds({ entries: 2, ttlMs: 60_000, outageTtlMs: 60_000 });
  expect([...cache.seeds()].map(({ name }) => name)).toEqual(["a", "c"]);
  expect([cache.size, cache.free, evicted]).toEqual([2, 0, 1]);
  expect(cache.peek("a")?.toString()).toBe("a");
  cache.setBounds({ entries: 4, ttlMs: 60_000, outageTtlMs: 60_000 });
  cache.add(seed("d", "k"), Buffer.from("d"));
  expect([...cache.seeds()].map(({ name }) => name)).toEqual(["d", "a", "c"]);
});

it("a cache applies a new lifetime to the entries that it holds", () => {
  const cache = build();
  cache.add(seed("a", "k"), Buffer.from("a"));
  cache.setBounds({ entries: 3, ttlMs: 0, outageTtlMs: 0 });
  expect(cache.peek("a")).toBeUndefined();
});
