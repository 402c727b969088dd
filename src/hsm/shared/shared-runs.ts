// Shares one piece of work among several callers: each receives the result of a run that began after its call, or at most
// a given time before. The runs never overlap, and there is a pause after each, so that callers cannot keep the token busy.
import { setTimeout as sleep } from "node:timers/promises";

/** How long a failure is shared, in ms: the work may succeed soon. */
const SHARED_FAILURE_MS = 500;
/** Pause after a run: a multiple of its duration, up to a maximum in ms, since a request may wait for the next. */
const PAUSE_SHARE = 2;
const MAX_PAUSE_MS = 500;

interface Run<T> {
  readonly result: Promise<T>;
  /** Since when its result is valid; while it runs, the earliest time at which that may be. */
  beganAt: number;
  readonly startedAt: number;
  /** By performance.now(); undefined while it runs. */
  endedAt?: number;
  hasFailed?: boolean;
}

/** Runs `work` for several callers. */
export class SharedRuns<T> {
  readonly #work: (maxAgeMs: number) => Promise<T>;
  readonly #validSinceOf: ((result: T) => number) | undefined;
  #last: Run<T> | undefined;
  #next: Promise<T> | undefined;
  /** Since when the result of the next run may be valid: the latest of what its callers accept. */
  #nextSince = -Infinity;
  /** Results of runs that began earlier are not used. */
  #validSince = -Infinity;

  /**
   * @param work may return a result that is valid since `maxAgeMs` before its call, if there is a `validSince`
   * @param validSince returns since when a result is valid, by performance.now(); since its run began, if omitted
   */
  constructor(work: (maxAgeMs: number) => Promise<T>, validSince?: (result: T) => number) {
    this.#work = work;
    this.#validSinceOf = validSince;
  }

  /** Returns the result of a run that began at most `maxAgeMs` before this call. */
  get(maxAgeMs: number): Promise<T> {
    const last = this.#last;
    if (last !== undefined && this.#isUsable(last, maxAgeMs)) return last.result;
    this.#nextSince = Math.max(this.#nextSince, performance.now() - maxAgeMs, this.#validSince);
    this.#next ??= this.#runNext();
    return this.#next;
  }

  /** Makes later calls ignore the result of any run that has already begun. */
  invalidate(): void {
    this.#validSince = performance.now();
  }

  #isUsable({ beganAt, endedAt, hasFailed }: Run<T>, maxAgeMs: number): boolean {
    const now = performance.now();
    if (beganAt <= this.#validSince || now - beganAt > maxAgeMs) return false;
    return hasFailed !== true || now - (endedAt ?? now) < SHARED_FAILURE_MS;
  }

  async #runNext(): Promise<T> {
    // Callers of this moment share the run.
    await sleep(0);
    const before = this.#last;
    if (before !== undefined) {
      await before.result.catch(() => undefined);
      const { startedAt, endedAt = startedAt } = before;
      const pauseMs = Math.min(MAX_PAUSE_MS, PAUSE_SHARE * (endedAt - startedAt));
      await sleep(Math.max(0, endedAt + pauseMs - performance.now()));
    }
    this.#next = undefined;
    const startedAt = performance.now();
    const since = Math.max(this.#nextSince, this.#validSince);
    this.#nextSince = -Infinity;
    const beganAt = this.#validSinceOf === undefined ? startedAt : since;
    const run: Run<T> = { result: this.#work(startedAt - since), beganAt, startedAt };
    this.#last = run;
    const end = (hasFailed: boolean): void => {
      run.endedAt = performance.now();
      run.hasFailed = hasFailed;
    };
    run.result.then(
      (result) => {
        run.beganAt = this.#validSinceOf?.(result) ?? startedAt;
        end(false);
      },
      () => {
        run.beganAt = startedAt;
        end(true);
      },
    );
    return run.result;
  }
}
