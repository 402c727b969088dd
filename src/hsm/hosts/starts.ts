// Limits the steps of all starts of one token's hosts that are in progress. If the HSM hangs, a start hangs too, and
// its call may never return, even when the HSM answers again. The oldest start gets all the time that the configuration
// allows, since the token may only have become slow. Later starts beside it are abandoned early and repeated until one
// succeeds: at the same short intervals for some minutes, so that a token that answers again serves within seconds, and
// later at longer ones. The time that the process itself takes does not count, since the machine may be busy.
import type { HostProcess } from "./host-process.js";

/**
 * "spawn": until the process has loaded its packages, without a PKCS#11 call; "open": until it has a session; "login":
 * C_Login; "read": finding one KEK, or one slice of a reading.
 */
export type Step = "spawn" | "open" | "login" | "read";

/** Runs one step of a start within its time limit. */
export type RunStep = <T>(step: Step, work: () => Promise<T>) => Promise<T>;

/** A step is late after this multiple of its previous duration, but not before LEAST_MS. */
const SLACK = 3;
const LEAST_MS = 1_500;
/**
 * The limit of the very first "open", in ms. The first run of another step has none, since it may take a token much
 * longer.
 */
const FIRST_OPEN_MS = 3_000;
/** Minimum limit of "spawn", in ms. It does not depend on the HSM. */
const SPAWN_MS = 60_000;
/** How long abandoned starts are repeated at the same intervals, in ms; counted from the first abandoned one. */
const EAGER_MS = 5 * 60_000;
/** Factor by which each start abandoned after EAGER_MS extends the limits of the next; at most MOST_LONGER in all. */
const LONGER = 1.25;
const MOST_LONGER = 4;

interface Start {
  readonly host: HostProcess;
  late: boolean;
  isSpawning: boolean;
  /** Ends the host unless another step succeeds first. */
  limit: NodeJS.Timeout | undefined;
}

/** Limits and measures the starts of one token's hosts. */
export class Starts {
  readonly #startTimeoutMs: number;
  readonly #onLate: () => void;
  /** The oldest first. */
  readonly #underWay: Start[] = [];
  readonly #took = new Map<Step, number>();
  #progressAt = 0;
  /** When a start was first abandoned since the last success, by performance.now(). */
  #givenUpSince: number | undefined;
  /** Number of starts abandoned after EAGER_MS. */
  #givenUp = 0;

  /**
   * @param startTimeoutMs maximum time without a successful step
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

  /**
   * When a step last succeeded, by performance.now(). While a process is being spawned, the present time: on a busy
   * machine that takes long, whatever the HSM does.
   */
  get progressAt(): number {
    return this.#underWay.some(({ isSpawning }) => isSpawning) ? performance.now() : this.#progressAt;
  }

  /** Runs one start. Ends its host if none of its steps succeeds for too long. */
  async run<T>(host: HostProcess, work: (run: RunStep) => Promise<T>): Promise<T> {
    const start: Start = { host, late: false, isSpawning: false, limit: undefined };
    this.#underWay.push(start);
    this.#limit(start);
    try {
      const result = await work((step, action) => this.#step(start, step, action));
      this.#givenUp = 0;
      this.#givenUpSince = undefined;
      // Starts that were late before this one began are unlikely to return.
      for (const other of this.#underWay) if (other.late) other.host.kill("hang");
      return result;
    } finally {
      clearTimeout(start.limit);
      this.#underWay.splice(this.#underWay.indexOf(start), 1);
    }
  }

  /** Returns the time after which a step is late, in ms; Infinity if it has not been measured. */
  lateMs(step: Step): number {
    if (step === "spawn") return Infinity;
    const tookMs = this.#took.get(step);
    if (tookMs !== undefined) return Math.max(LEAST_MS, SLACK * tookMs);
    return step === "open" ? FIRST_OPEN_MS : Infinity;
  }

  /** Runs `work` and, if it succeeds, records its duration for the step. */
  async measure<T>(step: Step, work: () => Promise<T>): Promise<T> {
    const begunAt = performance.now();
    const result = await work();
    const tookMs = performance.now() - begunAt;
    // A reading takes many steps, and the search at its beginning may take far longer than the others.
    this.#took.set(step, step === "read" ? Math.max(tookMs, this.#took.get(step) ?? 0) : tookMs);
    return result;
  }

  async #step<T>(start: Start, step: Step, work: () => Promise<T>): Promise<T> {
    start.isSpawning = step === "spawn";
    if (start.isSpawning) this.#limit(start, Math.max(SPAWN_MS, this.#startTimeoutMs));
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
      this.#progressAt = performance.now();
      this.#limit(start);
      return result;
    } finally {
      clearTimeout(timer);
      start.isSpawning = false;
      start.late = false;
    }
  }

  #limit(start: Start, limitMs = this.#startTimeoutMs): void {
    clearTimeout(start.limit);
    start.limit = setTimeout(() => {
      start.host.kill("hang");
    }, limitMs);
  }

  #overdue(start: Start): void {
    if (start !== this.#underWay[0]) {
      const now = performance.now();
      this.#givenUpSince ??= now;
      if (now - this.#givenUpSince >= EAGER_MS) this.#givenUp++;
      start.host.kill("hang");
      return;
    }
    start.late = true;
    this.#onLate();
  }
}
