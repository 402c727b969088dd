// The starts of one token's hosts that are under way, and how long each step of them may take. Where the HSM hangs a
// start hangs too, and nothing tells whether that call will return when the HSM answers again. So the oldest start is
// given all the time that the configuration allows, since a token may have become slow; later ones beside it are given
// up soon and made again, until one gets through.
import type { HostProcess } from "./host-process.js";

/** "open": from spawning the process to a session; "login": C_Login; "read": a slice of the first reading of the keyring. */
export type Step = "open" | "login" | "read";

export type RunStep = <T>(step: Step, work: () => Promise<T>) => Promise<T>;

/** A step is late when it takes this many times as long as it took last, and at least LEAST_MS. */
const SLACK = 3;
const LEAST_MS = 1_500;
/** The same for the first "open" of all. The other steps may take a token much longer the first time. */
const FIRST_OPEN_MS = 3_000;

interface Start {
  readonly host: HostProcess;
  late: boolean;
  /** Ends the host unless another step is done before. */
  limit: NodeJS.Timeout | undefined;
}

export class Starts {
  readonly #startTimeoutMs: number;
  readonly #onLate: () => void;
  /** The oldest first. */
  readonly #underWay: Start[] = [];
  readonly #took = new Map<Step, number>();

  /**
   * @param startTimeoutMs longest time without another step that is done
   * @param onLate called when the oldest start is late: another one beside it may get through
   */
  constructor(startTimeoutMs: number, onLate: () => void) {
    this.#startTimeoutMs = startTimeoutMs;
    this.#onLate = onLate;
  }

  get underWay(): number {
    return this.#underWay.length;
  }

  /** Whether the oldest start is late. */
  get isLate(): boolean {
    return this.#underWay[0]?.late ?? false;
  }

  /** Runs one start to its end; ends the host when no step of it is done for too long. */
  async run<T>(host: HostProcess, work: (run: RunStep) => Promise<T>): Promise<T> {
    const start: Start = { host, late: false, limit: undefined };
    this.#underWay.push(start);
    this.#limit(start);
    try {
      const result = await work((step, action) => this.#step(start, step, action));
      // Starts that hung before one that succeeded will hardly return.
      for (const other of this.#underWay) if (other.late) other.host.kill("hang");
      return result;
    } finally {
      clearTimeout(start.limit);
      this.#underWay.splice(this.#underWay.indexOf(start), 1);
    }
  }

  /** Returns how long a step may take before it is late; Infinity if it has not been measured. */
  lateMs(step: Step): number {
    const tookMs = this.#took.get(step);
    if (tookMs !== undefined) return Math.max(LEAST_MS, SLACK * tookMs);
    return step === "open" ? FIRST_OPEN_MS : Infinity;
  }

  /** Measures a step that succeeds. */
  async measure<T>(step: Step, work: () => Promise<T>): Promise<T> {
    const begunAt = performance.now();
    const result = await work();
    const tookMs = performance.now() - begunAt;
    // A reading is many steps, and the search at its beginning may take far longer than all others.
    this.#took.set(step, step === "read" ? Math.max(tookMs, this.#took.get(step) ?? 0) : tookMs);
    return result;
  }

  async #step<T>(start: Start, step: Step, work: () => Promise<T>): Promise<T> {
    const lateMs = this.lateMs(step);
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
      start.host.kill("hang");
      return;
    }
    start.late = true;
    this.#onLate();
  }
}
