// The working set: the seeds that kube-apiserver has this node decrypt. They are renewed before they expire,
// remembered by ciphertext in the state directory, and decrypted in advance at the next start. No request waits for any
// of this: without this folder, requests are served in the same way, with a cold cache.
import type { Log } from "../log.js";
import type { DecryptQuestion } from "../provider/kms.js";
import type { KnownSeeds } from "../provider/known-seeds.js";
import type { CheckFollower } from "../provider/running-provider.js";
import type { WorkingSetStore } from "./file.js";
import { Prefetch } from "./prefetch.js";
import { Renewal } from "./renewal.js";

/** The parts and limits of the working set. */
export interface WorkingSetOptions {
  readonly seeds: KnownSeeds;
  /** Where it is remembered; undefined: nowhere. */
  readonly store: WorkingSetStore | undefined;
  /** Lifetime of a cached seed at first, in ms. */
  readonly ttlMs: number;
  /** Returns whether the HSM is away. */
  readonly isAway: () => boolean;
  /** Largest number of background calls at a time, of prefetch and renewal each. */
  readonly most: number;
  readonly log: Log;
  /** Longest time for which a change is not saved, in ms. */
  readonly saveMs?: number;
}

/** The working set in numbers: entries now, and counts since the start. */
export interface WorkingSetCounts {
  /** Entries in the state directory. */
  readonly remembered: number;
  /** Entries that were remembered at the start and are not decrypted yet. */
  readonly pending: number;
  readonly prefetched: number;
  readonly failed: number;
  /** Prefetched seeds that a request has asked for. */
  readonly used: number;
  readonly renewed: number;
  readonly renewalsFailed: number;
}

const SAVE_MS = 10_000;

/** Renews, remembers and prefetches the working set. */
export class WorkingSet implements CheckFollower {
  readonly #seeds: KnownSeeds;
  readonly #store: WorkingSetStore | undefined;
  readonly #prefetch: Prefetch;
  readonly #renewal: Renewal;
  readonly #timer: NodeJS.Timeout | undefined;
  #remembered: number;
  #savedChanges: number;
  #isClosed = false;
  #saving: Promise<void> = Promise.resolve();

  constructor(options: WorkingSetOptions) {
    const { seeds, store, saveMs = SAVE_MS } = options;
    this.#seeds = seeds;
    this.#store = store;
    const remembered = store?.load() ?? [];
    this.#remembered = remembered.length;
    this.#savedChanges = seeds.changes;
    this.#prefetch = new Prefetch({ ...options, remembered });
    this.#renewal = new Renewal(options);
    if (store === undefined) return;
    this.#timer = setInterval(() => {
      void this.#save();
    }, saveMs).unref();
  }

  get counts(): WorkingSetCounts {
    const { prefetched, failed } = this.#prefetch.counts;
    const { renewed, failed: renewalsFailed } = this.#renewal.counts;
    const { used } = this.#seeds;
    const pending = this.#prefetch.pendingCount;
    return { remembered: this.#remembered, pending, prefetched, failed, used, renewed, renewalsFailed };
  }

  /** Changes the lifetime of the cached seeds, in ms. */
  setTtl(ttlMs: number): void {
    this.#renewal.setTtl(ttlMs);
  }

  keysRead(gone: readonly string[]): void {
    this.#prefetch.forget(gone);
    this.#prefetch.wake();
  }

  /** After an outage, this renews the seeds that outlived their TTL. */
  roundDone(): void {
    this.#prefetch.wake();
    this.#renewal.wake();
  }

  /** Ends all work and saves the last changes. Must be called before the cache is cleared; nothing is saved after it. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    clearInterval(this.#timer);
    this.#prefetch.stop();
    this.#renewal.stop();
    await this.#save();
  }

  /** Saves what is in memory or still to be decrypted, if that has changed; one save at a time. */
  #save(): Promise<void> {
    this.#saving = this.#saving.then(async () => {
      const { changes } = this.#seeds;
      if (this.#store === undefined || changes === this.#savedChanges) return;
      const saved = await this.#store.save(this.#questions());
      if (saved === undefined) return;
      this.#savedChanges = changes;
      this.#remembered = saved;
    });
    return this.#saving;
  }

  *#questions(): Generator<DecryptQuestion> {
    yield* this.#seeds.questions();
    yield* this.#prefetch.pending;
  }
}
