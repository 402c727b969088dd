// The unwrap cache: plaintexts by a digest of everything that determines them. Bounded in number and time;
// identical misses under way share one call; failures are not kept; entries are wiped when they leave. What
// it returns are copies: an entry may be wiped while its reader is still writing an answer.
import { createHash } from "node:crypto";
import { LRUCache } from "lru-cache";
import type { Caller } from "../hsm/port.js";
import type { Annotations } from "./kms.js";

export interface CacheObserver {
  cacheHit(): void;
  cacheMiss(): void;
  cacheEvicted(): void;
}

export interface UnwrapCacheOptions {
  /** Most entries; 0 turns the cache off. */
  readonly entries: number;
  readonly ttlMs: number;
  readonly observer: CacheObserver;
}

interface Entry {
  readonly keyId: string;
  readonly plaintext: Buffer;
}

/** One load under way and all who wait for it: cancelled only when every one of them is. */
class Flight implements Caller {
  readonly callers: Caller[] = [];
  readonly startedAt: number;
  readonly hsmCalls: Caller["hsmCalls"];
  waiting = 0;
  readonly plaintext: Promise<Buffer>;

  /** @param ended called before the first of the waiting goes on: nobody joins a flight that is being wiped */
  constructor(first: Caller, load: (caller: Caller) => Promise<Buffer>, ended: () => void) {
    this.callers.push(first);
    this.startedAt = first.startedAt ?? performance.now();
    this.hsmCalls = first.hsmCalls;
    this.plaintext = load(this).finally(ended);
  }

  get cancelled(): boolean {
    return this.callers.every((caller) => caller.cancelled);
  }

  /** A copy for one more of them; the last to leave wipes the original. */
  async copy(): Promise<Buffer> {
    this.waiting++;
    const plaintext = await this.plaintext;
    const copy = Buffer.from(plaintext);
    if (--this.waiting === 0) plaintext.fill(0);
    return copy;
  }
}

export class UnwrapCache {
  readonly #entries: LRUCache<string, Entry> | undefined;
  readonly #underWay = new Map<string, Flight>();
  readonly #observer: CacheObserver;
  /** Counts removals by key, so that an answer that was under way then is not stored after. */
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

  /** Returns a plaintext that is kept, as a copy for the caller; undefined on a miss. */
  peek(name: string): Buffer | undefined {
    const entry = this.#entries?.get(name);
    if (entry === undefined) return undefined;
    this.#observer.cacheHit();
    return Buffer.from(entry.plaintext);
  }

  /**
   * Returns a copy of the plaintext, from `load` on a miss; what `load` throws is thrown and not kept. The caller
   * that `load` is given stands for all who wait for the same plaintext.
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

  /** Wipes every plaintext that came from under this KEK. */
  dropKey(keyId: string): void {
    this.#epoch++;
    for (const [name, entry] of this.#entries?.entries() ?? []) {
      if (entry.keyId === keyId) this.#entries?.delete(name);
    }
  }

  /** Wipes what has outlived its time; to be called now and then. */
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

/** Names everything that determines a plaintext: each part with its length, so that no two lists collide. */
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
