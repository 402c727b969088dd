// The unwrap cache: DEK seeds, found by a digest of everything that determines them. It is bounded in number and time.
// Identical misses share one call; failures are not cached; entries are zeroed when they leave. It returns copies,
// since an entry may be zeroed while a response is still being written.
import { createHash } from "node:crypto";
import { LRUCache } from "lru-cache";
import type { Caller } from "../hsm/port.js";
import type { Annotations } from "./kms.js";

/** Receives the events of the cache. */
export interface CacheObserver {
  cacheHit(): void;
  cacheMiss(): void;
  cacheEvicted(): void;
}

/** The size of the cache and the lifetime of its entries, in ms. */
export interface UnwrapCacheOptions {
  /** Largest number of entries; 0 turns the cache off. */
  readonly entries: number;
  readonly ttlMs: number;
  readonly observer: CacheObserver;
}

interface Entry {
  readonly keyId: string;
  readonly plaintext: Buffer;
}

/** A load in progress, with all callers that wait for it. It is cancelled only when all of them are. */
class Flight implements Caller {
  readonly callers: Caller[] = [];
  readonly startedAt: number;
  readonly hsmCalls: Caller["hsmCalls"];
  waiting = 0;
  readonly plaintext: Promise<Buffer>;

  /**
   * @param ended called before the first caller continues, so that nobody joins a load whose plaintext is being zeroed
   */
  constructor(first: Caller, load: (caller: Caller) => Promise<Buffer>, ended: () => void) {
    this.callers.push(first);
    this.startedAt = first.startedAt ?? performance.now();
    this.hsmCalls = first.hsmCalls;
    this.plaintext = load(this).finally(ended);
  }

  get cancelled(): boolean {
    return this.callers.every((caller) => caller.cancelled);
  }

  /** Returns a copy for one more caller; the last caller zeroes the original. */
  async copy(): Promise<Buffer> {
    this.waiting++;
    const plaintext = await this.plaintext;
    const copy = Buffer.from(plaintext);
    if (--this.waiting === 0) plaintext.fill(0);
    return copy;
  }
}

/** Caches decrypted DEK seeds for a limited time. */
export class UnwrapCache {
  readonly #entries: LRUCache<string, Entry> | undefined;
  readonly #underWay = new Map<string, Flight>();
  readonly #observer: CacheObserver;
  /** Incremented by every removal by key, so that a load in progress is not stored afterwards. */
  #epoch = 0;

  constructor({ entries, ttlMs, observer }: UnwrapCacheOptions) {
    this.#observer = observer;
    if (entries === 0) return;
    this.#entries = new LRUCache({
      max: entries,
      ttl: ttlMs,
      ttlAutopurge: false,
      dispose: (entry, _key, reason) => {
        entry.plaintext.fill(0);
        if (reason === "evict") observer.cacheEvicted();
      },
    });
  }

  get size(): number {
    return this.#entries?.size ?? 0;
  }

  /** Returns a copy of a cached plaintext; undefined on a miss. */
  peek(name: string): Buffer | undefined {
    const entry = this.#entries?.get(name);
    if (entry === undefined) return undefined;
    this.#observer.cacheHit();
    return Buffer.from(entry.plaintext);
  }

  /**
   * Returns a copy of the plaintext, from `load` on a miss. An error of `load` is passed on and not cached. The caller
   * passed to `load` stands for all callers that wait for the same plaintext.
   */
  async get(
    name: string,
    keyId: string,
    load: (caller: Caller) => Promise<Buffer>,
    caller: Caller,
  ): Promise<Buffer> {
    if (this.#entries === undefined) return load(caller);
    const kept = this.peek(name);
    if (kept !== undefined) return kept;
    const running = this.#underWay.get(name);
    if (running !== undefined) {
      running.callers.push(caller);
      return running.copy();
    }
    this.#observer.cacheMiss();
    const flight = new Flight(
      caller,
      (all) => this.#load(name, keyId, () => load(all)),
      () => this.#underWay.delete(name),
    );
    this.#underWay.set(name, flight);
    return flight.copy();
  }

  /** Zeroes every plaintext that was encrypted under this KEK. */
  dropKey(keyId: string): void {
    this.#epoch++;
    for (const [name, entry] of this.#entries?.entries() ?? []) {
      if (entry.keyId === keyId) this.#entries?.delete(name);
    }
  }

  /** Zeroes expired entries. Must be called regularly. */
  purgeStale(): void {
    this.#entries?.purgeStale();
  }

  clear(): void {
    this.#epoch++;
    this.#entries?.clear();
  }

  async #load(name: string, keyId: string, load: () => Promise<Buffer>): Promise<Buffer> {
    const epoch = this.#epoch;
    const plaintext = await load();
    if (epoch === this.#epoch) this.#entries?.set(name, { keyId, plaintext: Buffer.from(plaintext) });
    return plaintext;
  }
}

/**
 * Returns a digest of everything that determines a plaintext, each part with its length, so that no two inputs collide.
 */
export function cacheName(keyId: string, ciphertext: Uint8Array, annotations: Annotations): string {
  const hash = createHash("sha256");
  const add = (part: Uint8Array | string): void => {
    hash.update(`${typeof part === "string" ? Buffer.byteLength(part) : part.length}:`).update(part);
  };
  add(keyId);
  add(ciphertext);
  for (const name of Object.keys(annotations).sort()) {
    add(name);
    add(annotations[name] ?? "");
  }
  return hash.digest("base64");
}
