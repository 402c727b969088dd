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
  readonly beganAt: number;
  /** By performance.now(); undefined while it runs. */
  endedAt?: number;
  hasFailed?: boolean;
}

/** Runs `work` for several callers. */
export class SharedRuns<T> {
  readonly #work: () => Promise<T>;
  #last: Run<T> | undefined;
  #next: Promise<T> | undefined;
  /** Results of runs that began earlier are not used. */
  #validSince = -Infinity;

  constructor(work: () => Promise<T>) {
    this.#work = work;
  }

  /** Returns the result of a run that began at most `maxAgeMs` before this call. */
  get(maxAgeMs: number): Promise<T> {
    const last = this.#last;
    if (last !== undefined && this.#isUsable(last, maxAgeMs)) return last.result;
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
      const { beganAt, endedAt = beganAt } = before;
      const pauseMs = Math.min(MAX_PAUSE_MS, PAUSE_SHARE * (endedAt - beganAt));
      await sleep(Math.max(0, endedAt + pauseMs - performance.now()));
    }
    this.#next = undefined;
    const run: Run<T> = { result: this.#work(), beganAt: performance.now() };
    this.#last = run;
    const end = (hasFailed: boolean): void => {
      run.endedAt = performance.now();
      run.hasFailed = hasFailed;
    };
    run.result.then(
      () => {
        end(false);
      },
      () => {
        end(true);
      },
    );
    return run.result;
  }
}
