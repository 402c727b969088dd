// The background work of the provider: reads the keyring and proves every generation on an interval, and soon
// when a request met trouble. What it finds goes to the outage; nothing here is on the path of a request.
import { KmsError } from "../errors.js";
import type { Keyring } from "./keyring.js";
import type { Outage } from "./outage.js";
import type { Prover } from "./prover.js";

export interface WatchOptions {
  readonly keyring: Keyring;
  readonly prover: Prover;
  readonly outage: Outage;
  /** Between two rounds while the HSM is there, in ms; a KEK's instant brings one forward. */
  readonly intervalMs: number;
  /** The key_id that Encrypt uses now: where it cannot be asked, the HSM is away. */
  readonly inUse: () => string | undefined;
  /** Wall clock, ms since the epoch. */
  readonly now: () => number;
  /** After every round, also a failed one. */
  readonly onRound: () => void | Promise<void>;
}

/** Between two rounds while it is away or a key fails, in ms. */
const TROUBLED_INTERVAL_MS = 1_000;
/** Trouble that requests report is looked into this often at most, in ms. */
const NUDGE_MS = 200;
/** Minimum gap between rounds requested from outside, in ms, and as a multiple of a round's length. */
const REFRESH_MS = 3_000;
const REFRESH_SHARE = 5;

export class Watch {
  readonly #options: WatchOptions;
  #stopped = false;
  #lastRoundAt = -Infinity;
  #lastRoundMs = 0;
  #isRunning = false;
  #checkedAt: number | undefined;
  #wake: (() => void) | undefined;
  /** Trouble was reported while nobody was waiting for it, or too soon after the last round. */
  #nudged = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: WatchOptions) {
    this.#options = options;
  }

  /** When the last round began that has read and tried every KEK, by the wall clock; undefined before the first. */
  get checkedAt(): number | undefined {
    return this.#checkedAt;
  }

  /** Runs until it is stopped; never throws. */
  async run(): Promise<void> {
    while (!this.#isStopped()) {
      const well = await this.round();
      if (this.#isStopped()) return;
      const { intervalMs } = this.#options;
      await this.#pause(well ? this.#untilDue(intervalMs) : Math.min(TROUBLED_INTERVAL_MS, intervalMs));
    }
  }

  /** Reads and proves once. Returns whether all was well. */
  async round(): Promise<boolean> {
    const { keyring, prover, outage, inUse, onRound } = this.#options;
    const beganAt = this.#options.now();
    const startedAt = performance.now();
    this.#isRunning = true;
    let well: boolean;
    try {
      const schedule = await keyring.read();
      // What was reported up to here is looked into by the proofs that follow.
      this.#nudged = false;
      await prover.prove(schedule.generations, inUse());
      this.#checkedAt = beganAt;
      outage.end();
      well = schedule.generations.every(({ record }) => prover.proofOf(record.keyId).failure === undefined);
    } catch (error) {
      // A keyring that could be read but holds nothing usable does not get here: Status says so itself.
      well = false;
      outage.begin(KmsError.from(error));
    }
    this.#lastRoundAt = performance.now();
    this.#lastRoundMs = this.#lastRoundAt - startedAt;
    this.#isRunning = false;
    await onRound();
    return well;
  }

  /** Asks for a round soon; while one runs, for another after it. */
  nudge(): void {
    this.#nudged = true;
    const waitMs = this.#lastRoundAt + NUDGE_MS - performance.now();
    if (waitMs <= 0) this.#wake?.();
    else if (this.#wake !== undefined) this.#wakeAfter(waitMs);
  }

  /** Requests a round for an outside caller; however often it is called, the token is read rarely. */
  refresh(): void {
    const idleMs = performance.now() - this.#lastRoundAt;
    if (!this.#isRunning && idleMs >= Math.max(REFRESH_MS, REFRESH_SHARE * this.#lastRoundMs)) this.nudge();
  }

  stop(): void {
    this.#stopped = true;
    this.#wake?.();
  }

  /** The time until the next KEK falls due, at most `limitMs`: it is looked at once more before it is used. */
  #untilDue(limitMs: number): number {
    const { keyring, now } = this.#options;
    const waits = keyring.schedule.generations
      .filter(({ activation }) => activation > (this.#checkedAt ?? -Infinity))
      .map(({ activation }) => Math.max(0, activation - now()));
    return Math.min(limitMs, ...waits);
  }

  #isStopped(): boolean {
    return this.#stopped;
  }

  async #pause(ms: number): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
      this.#wakeAfter(this.#nudged ? Math.min(ms, NUDGE_MS) : ms);
    });
    clearTimeout(this.#timer);
    this.#wake = undefined;
    this.#nudged = false;
  }

  #wakeAfter(ms: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#wake?.(), ms);
  }
}
