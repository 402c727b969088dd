// The cache of decrypted seeds: shared loads, bounds, and zeroed memory.

import { beforeEach, describe, expect, it } from "vitest";

import { KmsError } from "../../src/errors.js";
import { PATIENT_CALLER } from "../../src/hsm/port.js";
import { cacheName } from "../../src/provider/cache-name.js";
import { UnwrapCache, type NamedSeed } from "../../src/provider/unwrap-cache.js";
import { waitFor } from "../support/wait.js";

let counted: { hits: number; misses: number; evictions: number };
const observer = {
  cacheHit: () => {
    counted.hits++;
  },
  cacheMiss: () => {
    counted.misses++;
  },
  cacheEvicted: () => {
    counted.evictions++;
  },
};
const build = (entries: number, ttlMs = 60_000): UnwrapCache => new UnwrapCache({ entries, ttlMs, observer });
const seed = (name: string, keyId: string): NamedSeed => ({
  name,
  keyId,
  question: { keyId, ciphertext: Buffer.from(name), annotations: {} },
});
type Load = () => Promise<Buffer>;
const get = (cache: UnwrapCache, name: string, keyId: string, load: Load, caller = PATIENT_CALLER) =>
  cache.get(seed(name, keyId), load, caller);
const load = (text: string) => (): Promise<Buffer> => Promise.resolve(Buffer.from(text));

beforeEach(() => {
  counted = { hits: 0, misses: 0, evictions: 0 };
});

describe("the unwrap cache", () => {
  it("identical misses of the unwrap cache share one load, and each caller gets a copy", async () => {
    const cache = build(10);
    let loads = 0;
    const slow = async (): Promise<Buffer> => {
      loads++;
      await new Promise((resolve) => setImmediate(resolve));
      return Buffer.from("seed");
    };
    const answers = await Promise.all(Array.from({ length: 20 }, () => get(cache, "n", "k", slow)));
    expect(loads).toBe(1);
    expect(
      new Set(answers.map((answer) => answer.buffer === answers[0]?.buffer && answer.byteOffset)).size,
    ).toBe(20);
    answers[0]?.fill(0);
    expect((await get(cache, "n", "k", slow)).toString()).toBe("seed");
    expect(counted).toEqual({ hits: 1, misses: 1, evictions: 0 });
  });

  it("the unwrap cache cancels a load only when all its callers have disconnected", async () => {
    const cache = build(10);
    const callers = [{ cancelled: false }, { cancelled: false }] as const;
    let shared: { readonly cancelled: boolean } = PATIENT_CALLER;
    let release = (): void => undefined;
    const slow = async (all: { readonly cancelled: boolean }): Promise<Buffer> => {
      shared = all;
      await new Promise<void>((resolve) => (release = resolve));
      return Buffer.from("seed");
    };
    const answers = callers.map((caller) => cache.get(seed("n", "k"), slow, caller));
    const seen = callers.map((caller) => {
      (caller as { cancelled: boolean }).cancelled = true;
      return shared.cancelled;
    });
    expect(seen).toEqual([false, true]);
    release();
    expect((await Promise.all(answers)).map(String)).toEqual(["seed", "seed"]);
  });

  it("the unwrap cache zeroes the loaded bytes once every caller has a copy", async () => {
    const cache = build(1);
    const loaded = Buffer.from("seed");
    const both = [1, 2].map(() => get(cache, "n", "k", () => Promise.resolve(loaded)));
    expect((await Promise.all(both)).map(String)).toEqual(["seed", "seed"]);
    expect(loaded).toEqual(Buffer.alloc(4));
    expect(String(await get(cache, "n", "k", load("other")))).toBe("seed");
  });

  it("the unwrap cache removes an entry after its TTL", async () => {
    const cache = build(10, 1);
    await get(cache, "n", "k", load("seed"));
    await waitFor(() => {
      cache.purgeStale();
      return cache.size === 0;
    });
    expect(String(await get(cache, "n", "k", load("again")))).toBe("again");
  });

  it("the unwrap cache does not cache failures", async () => {
    const cache = build(10);
    await expect(get(cache, "n", "k", () => Promise.reject(new Error("away")))).rejects.toThrow("away");
    expect((await get(cache, "n", "k", load("seed"))).toString()).toBe("seed");
  });

  it("the unwrap cache evicts the least recently used entry beyond its bound", async () => {
    const cache = build(2);
    for (const name of ["a", "b", "c"]) await get(cache, name, "k", load(name));
    expect(cache.size).toBe(2);
    expect(cache.peek("a")).toBeUndefined();
    expect(counted.evictions).toBe(1);
  });

  it("the unwrap cache removes the entries of a KEK, and does not store its unfinished loads", async () => {
    const cache = build(10);
    await get(cache, "a", "k1", load("a"));
    await get(cache, "b", "k2", load("b"));
    let release = (): void => undefined;
    const late = get(cache, "c", "k1", async () => {
      await new Promise<void>((resolve) => (release = resolve));
      return Buffer.from("c");
    });
    cache.dropKey("k1");
    release();
    await late;
    expect([cache.peek("a"), cache.peek("c")]).toEqual([undefined, undefined]);
    expect(cache.peek("b")?.toString()).toBe("b");
  });

  it("the unwrap cache stores nothing when it is off", async () => {
    const cache = build(0);
    await get(cache, "a", "k", load("a"));
    expect(cache.size).toBe(0);
    expect(counted).toEqual({ hits: 0, misses: 0, evictions: 0 });
  });

  it("the unwrap cache zeroes a plaintext however it leaves", async () => {
    const kept: Buffer[] = [];
    const from = Buffer.from.bind(Buffer);
    const cache = build(1);
    const watch = async (name: string): Promise<void> => {
      // The cache keeps the only buffer that is made from the loaded plaintext before the caller's copy.
      const original = from(name.repeat(8));
      const spy = ((...args: Parameters<typeof Buffer.from>) => {
        const made = from(...args);
        if (args[0] === (original as unknown)) kept.push(made);
        return made;
      }) as typeof Buffer.from;
      Buffer.from = spy;
      try {
        await get(cache, name, "k", () => Promise.resolve(original));
      } finally {
        Buffer.from = from;
      }
    };
    await watch("a");
    await watch("b");
    cache.dropKey("k");
    await watch("c");
    cache.clear();
    const [evicted, , dropped, , cleared] = kept;
    for (const buffer of [evicted, dropped, cleared]) expect(buffer?.every((byte) => byte === 0)).toBe(true);
  });

  it("the unwrap cache names everything that determines a plaintext", () => {
    const names = [
      cacheName("k", Buffer.from("ab"), {}),
      cacheName("ka", Buffer.from("b"), {}),
      cacheName("k", Buffer.from("ab"), { x: Buffer.from("y") }),
      cacheName("k", Buffer.from("ab"), { xy: Buffer.from("") }),
    ];
    expect(new Set(names).size).toBe(names.length);
    const one = { x: Buffer.from("1"), y: Buffer.from("2") };
    const other = { y: Buffer.from("2"), x: Buffer.from("1") };
    expect(cacheName("k", Buffer.from("ab"), one)).toBe(cacheName("k", Buffer.from("ab"), other));
  });

  describe("with an outage", () => {
    const HOUR = 3_600_000;
    let hours = 0;
    let lastAway = -Infinity;
    const open = (outageTtlMs: number): UnwrapCache => {
      hours = 0;
      lastAway = -Infinity;
      const clocks = { now: () => hours * HOUR, lastAwayAt: () => lastAway * HOUR };
      return new UnwrapCache({ entries: 10, ttlMs: HOUR, outageTtlMs, observer, ...clocks });
    };
    const isCachedAt = (cache: UnwrapCache, at: number, isAway = false): boolean => {
      hours = at;
      if (isAway) lastAway = at;
      cache.purgeStale();
      return cache.peek("n") !== undefined;
    };

    it("the unwrap cache keeps an entry during an outage until the outage TTL is over", async () => {
      const cache = open(48 * HOUR);
      await get(cache, "n", "k", load("seed"));
      expect(isCachedAt(cache, 26, true)).toBe(true);
      expect(isCachedAt(cache, 47.9, true)).toBe(true);
      expect(isCachedAt(cache, 48, true)).toBe(false);
    });

    it("the unwrap cache keeps an entry for one TTL after an outage, in which it can be renewed", async () => {
      const cache = open(48 * HOUR);
      await get(cache, "n", "k", load("seed"));
      expect(isCachedAt(cache, 26, true)).toBe(true);
      expect(isCachedAt(cache, 26.9)).toBe(true);
      await cache.renew("n", load("seed"));
      expect(isCachedAt(cache, 27.8)).toBe(true);
      expect(isCachedAt(cache, 27.9)).toBe(false);
      await get(cache, "n", "k", load("seed"));
      expect(isCachedAt(cache, 53, true)).toBe(true);
      expect(isCachedAt(cache, 54)).toBe(false);
    });

    it("the unwrap cache uses an expired entry if the HSM is away, and for no other failure", async () => {
      const cache = open(48 * HOUR);
      const fails = (code: "HSM_UNAVAILABLE" | "NOT_AUTHENTIC"): Load => {
        return () => Promise.reject(new KmsError(code, code));
      };
      await get(cache, "n", "k", load("seed"));
      hours = 1.5;
      await expect(get(cache, "n", "k", fails("NOT_AUTHENTIC"))).rejects.toThrow("NOT_AUTHENTIC");
      expect(String(await get(cache, "n", "k", fails("HSM_UNAVAILABLE")))).toBe("seed");
      hours = 48;
      await expect(get(cache, "n", "k", fails("HSM_UNAVAILABLE"))).rejects.toThrow("HSM_UNAVAILABLE");
    });

    it("the unwrap cache removes an entry at its TTL if the outage TTL is shorter", async () => {
      const cache = open(0);
      await get(cache, "n", "k", load("seed"));
      expect(isCachedAt(cache, 0.9, true)).toBe(true);
      expect(isCachedAt(cache, 1, true)).toBe(false);
    });
  });

  it("a renewal replaces the plaintext and zeroes the loaded bytes; a failed one does nothing", async () => {
    const cache = build(10);
    await get(cache, "n", "k", load("seed"));
    const renewed = Buffer.from("renewed");
    await cache.renew("n", () => Promise.resolve(renewed));
    expect(cache.peek("n")?.toString()).toBe("renewed");
    expect(renewed).toEqual(Buffer.alloc(7));
    await expect(cache.renew("n", () => Promise.reject(new Error("away")))).rejects.toThrow("away");
    expect(cache.peek("n")?.toString()).toBe("renewed");
  });

  it("a renewal does not bring back an entry that was removed meanwhile", async () => {
    const cache = build(10);
    await get(cache, "n", "k", load("seed"));
    await cache.renew("n", async () => {
      cache.dropKey("k");
      await Promise.resolve();
      return Buffer.from("seed");
    });
    expect(cache.size).toBe(0);
  });

  it("a seed loaded in advance removes no other, and counts once when it is requested", async () => {
    const cache = build(1);
    expect(await cache.loadAhead(seed("a", "k"), load("a"))).toBe(true);
    expect(await cache.loadAhead(seed("a", "k"), load("other"))).toBe(false);
    expect(await cache.loadAhead(seed("b", "k"), load("b"))).toBe(false);
    expect(cache.usedAhead).toBe(0);
    for (const times of [1, 2]) {
      expect((await get(cache, "a", "k", load(`${times}`))).toString()).toBe("a");
    }
    expect(cache.usedAhead).toBe(1);
    expect(counted).toEqual({ hits: 2, misses: 0, evictions: 0 });
  });

  it("the unwrap cache lists its seeds with copied ciphertexts, the last requested first", async () => {
    const cache = build(10);
    const message = Buffer.from("abc");
    const asked = { keyId: "k", ciphertext: message.subarray(0, 1), annotations: {} };
    const before = cache.changes;
    await cache.get({ name: "a", keyId: "k", question: asked }, load("a"), PATIENT_CALLER);
    await get(cache, "b", "k", load("b"));
    expect(cache.changes).toBeGreaterThan(before);
    cache.peek("a");
    message.fill(0);
    expect([...cache.seeds()].map(({ name, question }) => [name, String(question.ciphertext)])).toEqual([
      ["a", "a"],
      ["b", "b"],
    ]);
  });
});
