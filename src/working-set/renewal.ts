// Has the HSM decrypt cached seeds again before they expire, so that the working set stays in memory while the HSM
// answers, and the loss of a KEK takes effect within the TTL.
import { KmsError } from "../errors.js";
import type { Log } from "../log.js";
import type { KnownSeeds } from "../provider/known-seeds.js";
import type { CachedSeed } from "../provider/unwrap-cache.js";
import { Pauses, Series } from "./failures.js";
import { callPaced } from "./paced-calls.js";

/** What is renewed, and when. */
export interface RenewalOptions {
  readonly seeds: Pick<KnownSeeds, "cached" | "renew">;
  /** Lifetime of a cached seed at first, in ms. */
  readonly ttlMs: number;
  /** Returns whether the HSM is away. */
  readonly isAway: () => boolean;
  /** Largest number of calls at a time. */
  readonly most: number;
  readonly log: Log;
}

/**
 * A seed is renewed between these fractions of its TTL. Its name decides when, so that seeds that were decrypted together
 * are not renewed together.
 */
const EARLIEST = 0.5;
const SPREAD = 0.25;
/** Fraction of the TTL between two searches for seeds to renew; a search visits every cached seed. */
const SEARCH = 0.05;
const LEAST_SEARCH_MS = 50;

/** Renews cached seeds in the background. */
export class Renewal {
  readonly #options: RenewalOptions;
  readonly #pauses = new Pauses();
  #ttlMs: number;
  #timer: NodeJS.Timeout;
  #isRunning = false;
  #isStopped = false;
  #renewed = 0;
  #failed = 0;
  #lastError: KmsError | undefined;

  constructor(options: RenewalOptions) {
    this.#options = options;
    this.#ttlMs = options.ttlMs;
    this.#timer = this.#startTimer();
  }

  /** Changes the lifetime of the cached seeds. */
  setTtl(ttlMs: number): void {
    clearInterval(this.#timer);
    this.#ttlMs = ttlMs;
    if (!this.#isStopped) this.#timer = this.#startTimer();
  }

  #startTimer(): NodeJS.Timeout {
    const everyMs = Math.max(LEAST_SEARCH_MS, SEARCH * this.#ttlMs);
    return setInterval(() => {
      this.wake();
    }, everyMs).unref();
  }

  /** Numbers of renewals that succeeded, and that failed. */
  get counts(): { readonly renewed: number; readonly failed: number } {
    return { renewed: this.#renewed, failed: this.#failed };
  }

  /** Renews the seeds that are due, unless it is doing so, the HSM is away or a pause is not over. */
  wake(): void {
    if (this.#isRunning || this.#isStopped || this.#options.isAway() || !this.#pauses.isOver) return;
    const now = performance.now();
    const due = [...this.#options.seeds.cached()].filter((seed) => now >= this.#dueAt(seed));
    // The oldest first: it expires first.
    if (due.length > 0) void this.#run(due.sort((one, other) => one.provenAt - other.provenAt));
  }

  stop(): void {
    this.#isStopped = true;
    clearInterval(this.#timer);
  }

  #dueAt({ name, provenAt }: CachedSeed): number {
    // The name is a digest in base64, so its first characters are random.
    const part = Buffer.from(name.slice(0, 4), "base64").readUIntBE(0, 3) / 0xffffff;
    return provenAt + this.#ttlMs * (EARLIEST + SPREAD * part);
  }

  async #run(due: readonly CachedSeed[]): Promise<void> {
    const failedBefore = this.#failed;
    const series = new Series();
    this.#isRunning = true;
    const renew = async (seed: CachedSeed): Promise<boolean> => {
      if (series.mayCall(seed.keyId)) await this.#renew(seed, series);
      return !series.hasEnded && !this.#isStopped;
    };
    await callPaced(due, renew, this.#options.most);
    this.#isRunning = false;
    this.#pauses.ended(series);
    const failed = this.#failed - failedBefore;
    if (failed === 0 || this.#isStopped) return;
    this.#options.log.warn({ failed, err: this.#lastError }, "cached seeds could not be renewed");
  }

  async #renew(seed: CachedSeed, series: Series): Promise<void> {
    try {
      await this.#options.seeds.renew(seed);
      this.#renewed++;
    } catch (thrown) {
      this.#failed++;
      this.#lastError = KmsError.from(thrown);
      series.failed(seed.keyId, this.#lastError);
    }
  }
}
