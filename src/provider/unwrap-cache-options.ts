// The bounds of the unwrap cache, and what it reports to and asks.

/** Receives the events of the cache. */
export interface CacheObserver {
  cacheHit(): void;
  cacheMiss(): void;
  cacheEvicted(): void;
}

/** The size of the cache and the lifetime of its entries, in ms. */
export interface CacheBounds {
  /** Largest number of entries; 0 turns the cache off. */
  readonly entries: number;
  /** How long an entry stays after the HSM has decrypted it. */
  readonly ttlMs: number;
  /** How long it stays if the HSM is away; no effect if omitted or shorter than `ttlMs`. */
  readonly outageTtlMs?: number;
}

/** The bounds of the cache, and what it is connected with. */
export interface UnwrapCacheOptions extends CacheBounds {
  readonly observer: CacheObserver;
  /** Returns when the HSM was last away, by `now`: now during an outage, -Infinity if never. */
  readonly lastAwayAt?: () => number;
  /** A monotonic clock in ms. */
  readonly now?: () => number;
}
