// The unwrap cache: DEK seeds, found by a digest of everything that determines them. It is bounded in number and time.
// Identical misses share one call; failures are not cached; entries are zeroed when they leave. It returns copies,
// since an entry may be zeroed while a response is still being written. While the HSM is away, entries stay longer.
import { LRUCache } from "lru-cache";
import { KmsError } from "../errors.js";
import { meansHsmAway } from "../hsm/away.js";
import type { Caller } from "../hsm/port.js";
import type { DecryptQuestion } from "./kms.js";
import { SharedLoad } from "./shared-load.js";
import type { CacheBounds, UnwrapCacheOptions } from "./unwrap-cache-options.js";

/** A seed as the cache finds it, and the question that has the HSM decrypt it. */
export interface NamedSeed {
  /** What `cacheName` returns. */
  readonly name: string;
  /** The KEK's own key_id; the question may carry an alias. */
  readonly keyId: string;
  readonly question: DecryptQuestion;
}

/** A cached seed, without its plaintext. */
export interface CachedSeed extends NamedSeed {
  /** When the HSM last decrypted it, by the cache's clock in ms. */
  readonly provenAt: number;
}

interface Entry extends CachedSeed {
  plaintext: Buffer;
  provenAt: number;
  /** Whether it was decrypted in advance and no request has asked for it yet. */
  isAhead: boolean;
}

/** Caches decrypted DEK seeds for a limited time. */
export class UnwrapCache {
  #options: UnwrapCacheOptions;
  readonly #now: () => number;
  #entries: LRUCache<string, Entry> | undefined;
  readonly #underWay = new Map<string, SharedLoad>();
  /** Incremented by every removal by key, so that a load in progress is not stored afterwards. */
  #removals = 0;
  #changes = 0;
  #usedAhead = 0;

  constructor(options: UnwrapCacheOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
    if (options.entries > 0) this.#entries = this.#emptyCache(options.entries);
  }

  #emptyCache(entries: number): LRUCache<string, Entry> {
    return new LRUCache({
      max: entries,
      dispose: (entry, _name, reason) => {
        entry.plaintext.fill(0);
        this.#changes++;
        if (reason === "evict") this.#options.observer.cacheEvicted();
      },
    });
  }

  /**
   * Changes the number of entries and their lifetime. If there are too many entries, the most recently requested ones stay.
   * Must not turn the cache on or off.
   */
  setBounds({ entries, ttlMs, outageTtlMs }: Required<CacheBounds>): void {
    const before = this.#entries;
    const isResized = entries !== this.#options.entries;
    this.#options = { ...this.#options, entries, ttlMs, outageTtlMs };
    if (before === undefined || !isResized) return;
    // Entries are moved, not copied, so only those that do not fit are zeroed: the least recently requested, set first.
    const after = this.#emptyCache(entries);
    for (const [name, entry] of [...before.entries()].reverse()) after.set(name, entry);
    this.#entries = after;
  }

  get size(): number {
    return this.#entries?.size ?? 0;
  }

  /** Number of entries that can be added without removing one. */
  get free(): number {
    return this.#options.entries - this.size;
  }

  /** Increases whenever an entry is added or removed. */
  get changes(): number {
    return this.#changes;
  }

  /** Number of seeds that were decrypted in advance and then requested. */
  get usedAhead(): number {
    return this.#usedAhead;
  }

  /** Returns the cached seeds, the most recently requested first. */
  *seeds(): Generator<CachedSeed> {
    for (const [, entry] of this.#entries?.entries() ?? []) yield entry;
  }

  has(name: string): boolean {
    return this.#entries?.has(name) ?? false;
  }

  /** Returns a copy of a cached plaintext; undefined on a miss. */
  peek(name: string): Buffer | undefined {
    const entry = this.#entries?.get(name);
    if (entry === undefined || this.#hasExpired(entry)) return undefined;
    this.#options.observer.cacheHit();
    if (entry.isAhead) this.#usedAhead++;
    entry.isAhead = false;
    return Buffer.from(entry.plaintext);
  }

  /**
   * Returns a copy of the plaintext, from `load` on a miss. An error of `load` is passed on and not cached. The caller
   * passed to `load` stands for all callers that wait for the same plaintext.
   */
  async get(seed: NamedSeed, load: (caller: Caller) => Promise<Buffer>, caller: Caller): Promise<Buffer> {
    if (this.#entries === undefined) return load(caller);
    const { name } = seed;
    const kept = this.peek(name);
    if (kept !== undefined) return kept;
    const running = this.#underWay.get(name);
    if (running !== undefined) {
      running.callers.push(caller);
      return running.copy();
    }
    this.#options.observer.cacheMiss();
    const shared = new SharedLoad(
      caller,
      (all) => this.#load(seed, () => load(all)),
      () => this.#underWay.delete(name),
    );
    this.#underWay.set(name, shared);
    return shared.copy();
  }

  /** Adds a seed that the HSM has just encrypted and decrypted again. */
  add(seed: NamedSeed, plaintext: Uint8Array): void {
    if (this.#entries !== undefined) this.#set(seed, plaintext, { provenAt: this.#now(), isAhead: false });
  }

  /**
   * Adds a seed that no request has asked for. Returns false if it is cached already, or would remove another one.
   * Passes on an error of `load`.
   */
  async loadAhead(seed: NamedSeed, load: () => Promise<Buffer>): Promise<boolean> {
    const isWanted = (): boolean => this.free > 0 && !this.has(seed.name);
    if (!isWanted()) return false;
    const { removals, beganAt, plaintext } = await this.#timed(load);
    const isAdded = removals === this.#removals && isWanted();
    if (isAdded) this.#set(seed, plaintext, { provenAt: beganAt, isAhead: true });
    plaintext.fill(0);
    return isAdded;
  }

  /** Has the HSM decrypt an entry again, which begins its lifetime again. Passes on an error of `load`. */
  async renew(name: string, load: () => Promise<Buffer>): Promise<void> {
    const { removals, beganAt, plaintext } = await this.#timed(load);
    const entry = this.#entries?.peek(name);
    if (removals === this.#removals && entry !== undefined) {
      entry.plaintext.fill(0);
      entry.plaintext = Buffer.from(plaintext);
      entry.provenAt = beganAt;
    }
    plaintext.fill(0);
  }

  /** Zeroes every plaintext that was encrypted under this KEK. */
  dropKey(keyId: string): void {
    this.#removals++;
    for (const [name, entry] of this.#entries?.entries() ?? []) {
      if (entry.keyId === keyId) this.#entries?.delete(name);
    }
  }

  /**
   * Zeroes expired entries. Must be called after each check of the HSM: until the next one, an entry that has expired
   * may still turn out to be needed because the HSM is away.
   */
  purgeStale(): void {
    for (const [name, entry] of this.#entries?.entries() ?? []) {
      if (this.#hasExpired(entry)) this.#entries?.delete(name);
    }
  }

  clear(): void {
    this.#removals++;
    this.#entries?.clear();
  }

  /** After an outage, entries stay for another TTL, in which they are renewed, but never longer than the outage TTL. */
  #hasExpired({ provenAt }: Entry): boolean {
    const { ttlMs, outageTtlMs = ttlMs, lastAwayAt } = this.#options;
    const now = this.#now();
    if (now < provenAt + ttlMs) return false;
    return now >= Math.min((lastAwayAt?.() ?? -Infinity) + ttlMs, provenAt + outageTtlMs);
  }

  async #load(seed: NamedSeed, load: () => Promise<Buffer>): Promise<Buffer> {
    try {
      const { removals, beganAt, plaintext } = await this.#timed(load);
      if (removals === this.#removals) this.#set(seed, plaintext, { provenAt: beganAt, isAhead: false });
      return plaintext;
    } catch (error) {
      const kept = meansHsmAway(KmsError.from(error)) ? this.#expired(seed.name) : undefined;
      if (kept !== undefined) return kept;
      throw error;
    }
  }

  /** Returns a copy of an entry that expired before the outage was detected. */
  #expired(name: string): Buffer | undefined {
    const { ttlMs, outageTtlMs = ttlMs } = this.#options;
    const entry = this.#entries?.peek(name);
    return entry !== undefined && this.#now() < entry.provenAt + outageTtlMs
      ? Buffer.from(entry.plaintext)
      : undefined;
  }

  /** Loads, and returns when that began: an entry's lifetime counts from then. */
  async #timed(
    load: () => Promise<Buffer>,
  ): Promise<{ readonly removals: number; readonly beganAt: number; readonly plaintext: Buffer }> {
    const removals = this.#removals;
    const beganAt = this.#now();
    return { removals, beganAt, plaintext: await load() };
  }

  /** Keeps copies: the plaintext is the caller's, and the ciphertext may be part of a larger message. */
  #set(
    { name, keyId, question }: NamedSeed,
    plaintext: Uint8Array,
    state: { readonly provenAt: number; readonly isAhead: boolean },
  ): void {
    const own = { ...question, ciphertext: Buffer.from(question.ciphertext) };
    this.#entries?.set(name, { name, keyId, question: own, plaintext: Buffer.from(plaintext), ...state });
    this.#changes++;
  }
}
