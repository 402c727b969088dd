// Limits the steps of all starts of one token's hosts that are in progress. If the HSM hangs, a start hangs too, and nobody
// knows whether its call returns when the HSM answers again. So the oldest start gets all the time that the
// configuration allows, since the token may have become slow. Later ones beside it are given up soon and repeated, until
// one succeeds; each gets longer than the one before it, since the machine may be busy.
import type { HostProcess } from "./host-process.js";

/** "open": from spawning the process to a session; "login": C_Login; "read": finding one KEK, or one slice of a reading. */
export type Step = "open" | "login" | "read";

export type RunStep = <T>(step: Step, work: () => Promise<T>) => Promise<T>;

/** A step is late when it takes this many times as long as it took last, and at least LEAST_MS. */
const SLACK = 3;
const LEAST_MS = 1_500;
/** The limit of the very first "open". The first of another step has none, since it may take a token much longer. */
const FIRST_OPEN_MS = 3_000;
/** Each start that was given up beside the oldest gives the next one this many times as long, up to MOST_LONGER in all. */
const LONGER = 1.25;
const MOST_LONGER = 4;

interface Start {
  readonly host: HostProcess;
  late: boolean;
  /** Ends the host unless another step succeeds first. */
  limit: NodeJS.Timeout | undefined;
}

export class Starts {
  readonly #startTimeoutMs: number;
  readonly #onLate: () => void;
  /** The oldest first. */
  readonly #underWay: Start[] = [];
  readonly #took = new Map<Step, number>();
  /** Starts given up beside the oldest since the last one that succeeded. */
  #givenUp = 0;

  /**
   * @param startTimeoutMs longest time without another step that succeeds
   * @param onLate called when the oldest start is late, and another one may run beside it
   */
  constructor(startTimeoutMs: number, onLate: () => void) {
    this.#startTimeoutMs = startTimeoutMs;
    this.#onLate = onLate;
  }

  /** Number of starts in progress. */
  get underWay(): number {
    return this.#underWay.length;
  }

  /** Whether the oldest start is late. */
  get isLate(): boolean {
    return this.#underWay[0]?.late ?? false;
  }

  /** Runs one start. Ends its host if no step of it succeeds for too long. */
  async run<T>(host: HostProcess, work: (run: RunStep) => Promise<T>): Promise<T> {
    const start: Start = { host, late: false, limit: undefined };
    this.#underWay.push(start);
    this.#limit(start);
    try {
      const result = await work((step, action) => this.#step(start, step, action));
      this.#givenUp = 0;
      // Starts that have been late since before this one began will hardly return.
      for (const other of this.#underWay) if (other.late) other.host.kill("hang");
      return result;
    } finally {
      clearTimeout(start.limit);
      this.#underWay.splice(this.#underWay.indexOf(start), 1);
    }
  }

  /** Returns after how many ms a step is late; Infinity if it has not been measured. */
  lateMs(step: Step): number {
    const tookMs = this.#took.get(step);
    if (tookMs !== undefined) return Math.max(LEAST_MS, SLACK * tookMs);
    return step === "open" ? FIRST_OPEN_MS : Infinity;
  }

  /** Does `work` and, if it succeeds, records its duration as that of the step. */
  async measure<T>(step: Step, work: () => Promise<T>): Promise<T> {
    const begunAt = performance.now();
    const result = await work();
    const tookMs = performance.now() - begunAt;
    // A reading takes many steps, and the search at its beginning may take far longer than the others.
    this.#took.set(step, step === "read" ? Math.max(tookMs, this.#took.get(step) ?? 0) : tookMs);
    return result;
  }

  async #step<T>(start: Start, step: Step, work: () => Promise<T>): Promise<T> {
    const isOldest = start === this.#underWay[0];
    const longer = isOldest ? 1 : Math.min(MOST_LONGER, LONGER ** this.#givenUp);
    const lateMs = longer * this.lateMs(step);
    const timer =
      lateMs < this.#startTimeoutMs
        ? setTimeout(() => {
            this.#overdue(start);
          }, lateMs)
        : undefined;
    try {
      const result = await this.measure(step, work);
      this.#limit(start);
      return result;
    } finally {
      clearTimeout(timer);
      start.late = false;
    }
  }

  #limit(start: Start): void {
    clearTimeout(start.limit);
    start.limit = setTimeout(() => {
      start.host.kill("hang");
    }, this.#startTimeoutMs);
  }

  #overdue(start: Start): void {
    if (start !== this.#underWay[0]) {
      this.#givenUp++;
      start.host.kill("hang");
      return;
    }
    start.late = true;
    this.#onLate();
  }
}
