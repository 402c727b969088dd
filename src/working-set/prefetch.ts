// Decrypts the remembered working set after a start, as fast as the HSM permits; every request goes first. Entries whose
// KEK is not on the token wait until it appears there.
import { KmsError } from "../errors.js";
import type { Log } from "../log.js";
import type { DecryptQuestion } from "../provider/kms.js";
import type { KnownSeeds } from "../provider/known-seeds.js";
import { cacheName } from "../provider/cache-name.js";
import { isFinal, Pauses, Series } from "./failures.js";
import { callPaced } from "./paced-calls.js";

/** What the prefetch decrypts with, and its limits. */
export interface PrefetchOptions {
  readonly seeds: Pick<KnownSeeds, "canLoad" | "loadAhead">;
  readonly remembered: readonly DecryptQuestion[];
  /** Returns whether the HSM is away. */
  readonly isAway: () => boolean;
  /** Largest number of calls at a time. */
  readonly most: number;
  readonly log: Log;
}

interface PrefetchCounts {
  readonly prefetched: number;
  readonly failed: number;
}

interface Pending {
  readonly question: DecryptQuestion;
  attempts: number;
}

/** Attempts with one entry before it is given up: a ciphertext may be what makes the HSM fail. */
const MAX_ATTEMPTS = 3;

/** Decrypts remembered seeds and local KEKs once. */
export class Prefetch {
  readonly #options: PrefetchOptions;
  readonly #pending = new Map<string, Pending>();
  readonly #pauses = new Pauses();
  #isRunning = false;
  #isStopped = false;
  #prefetched = 0;
  #failed = 0;

  constructor(options: PrefetchOptions) {
    this.#options = options;
    for (const question of options.remembered) {
      const { keyId, ciphertext, annotations } = question;
      this.#pending.set(cacheName(keyId, ciphertext, annotations), { question, attempts: 0 });
    }
  }

  /** What has not been decrypted yet, in the order in which it was remembered. */
  get pending(): DecryptQuestion[] {
    return [...this.#pending.values()].map(({ question }) => question);
  }

  get pendingCount(): number {
    return this.#pending.size;
  }

  /** Numbers of entries that were decrypted, and that could not be. */
  get counts(): PrefetchCounts {
    return { prefetched: this.#prefetched, failed: this.#failed };
  }

  /** Begins or continues, unless it is running, the HSM is away or a pause is not over. */
  wake(): void {
    const { seeds, isAway } = this.#options;
    if (this.#isRunning || this.#isStopped || this.#pending.size === 0) return;
    if (isAway() || !this.#pauses.isOver) return;
    const known = [...this.#pending].filter(([, { question }]) => seeds.canLoad(question));
    if (known.length > 0) void this.#run(known);
  }

  /** Forgets what was encrypted under KEKs that were removed. */
  forget(keyIds: readonly string[]): void {
    if (keyIds.length === 0) return;
    for (const [name, { question }] of this.#pending) {
      if (keyIds.includes(question.keyId)) this.#pending.delete(name);
    }
  }

  /** Makes no further call. */
  stop(): void {
    this.#isStopped = true;
  }

  async #run(entries: readonly [string, Pending][]): Promise<void> {
    const startedAt = performance.now();
    const before = this.counts;
    const series = new Series();
    this.#isRunning = true;
    const load = async ([name, entry]: [string, Pending]): Promise<boolean> => {
      if (series.mayCall(entry.question.keyId)) await this.#load(name, entry, series);
      return !series.hasEnded && !this.#isStopped;
    };
    await callPaced(entries, load, this.#options.most);
    this.#isRunning = false;
    this.#pauses.ended(series);
    if (!this.#isStopped) this.#report(before, startedAt, series.failure);
  }

  async #load(name: string, entry: Pending, series: Series): Promise<void> {
    try {
      if (await this.#options.seeds.loadAhead(entry.question)) this.#prefetched++;
      this.#pending.delete(name);
    } catch (thrown) {
      const error = KmsError.from(thrown);
      if (error.code === "KEY_UNKNOWN" || this.#isStopped) return;
      series.failed(entry.question.keyId, error);
      entry.attempts++;
      if (!isFinal(error) && entry.attempts < MAX_ATTEMPTS) return;
      this.#pending.delete(name);
      this.#failed++;
    }
  }

  #report(before: PrefetchCounts, startedAt: number, failure: KmsError | undefined): void {
    const { log } = this.#options;
    const facts = {
      prefetched: this.#prefetched - before.prefetched,
      failed: this.#failed - before.failed,
      pending: this.#pending.size,
      seconds: (performance.now() - startedAt) / 1000,
    };
    if (failure === undefined) log.info(facts, "working set decrypted in advance");
    else log.warn({ ...facts, err: failure }, "not all of the working set could be decrypted in advance");
  }
}
