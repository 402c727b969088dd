// The background work of the provider: reads the keyring and proves every generation on an interval, and soon
// when a request met trouble. Nothing here is on the path of a request. The HSM is away when operations under the KEK
// fail; a token that is slow to read, or cannot be read, while they succeed is not.
import { setTimeout as setTimer } from "node:timers/promises";
import { KmsError } from "../errors.js";
import type { Log } from "../log.js";
import type { Keyring } from "./keyring.js";
import type { Outage } from "./outage.js";
import type { Prover } from "./prover.js";

export interface BackgroundCheckOptions {
  readonly keyring: Keyring;
  readonly prover: Prover;
  readonly outage: Outage;
  /** Between two rounds while the HSM is there, in ms; a KEK's instant brings one forward. */
  readonly intervalMs: number;
  /** The key_id that Encrypt uses now: where it cannot be asked, the HSM is away. */
  readonly inUse: () => string | undefined;
  /** Wall clock, ms since the epoch. */
  readonly now: () => number;
  readonly log: Log;
  /** After every round, also a failed one. */
  readonly onRound: () => void | Promise<void>;
}

/** Between two rounds while it is away or a key fails, in ms. */
const TROUBLED_INTERVAL_MS = 1_000;
/** Most time between two proofs while a reading goes on, in ms. */
const MEANWHILE_MS = 1_000;
/** Trouble that requests report is looked into this often at most, in ms. */
const NUDGE_MS = 200;
/** Minimum gap between rounds requested from outside, in ms, and as a multiple of a round's length. */
const REFRESH_MS = 3_000;
const REFRESH_SHARE = 5;

export class BackgroundCheck {
  readonly #options: BackgroundCheckOptions;
  #stopped = false;
  #lastRoundAt = -Infinity;
  #lastRoundMs = 0;
  #isRunning = false;
  #checkedAt: number | undefined;
  /** Readings in a row that have failed while the KEKs worked. */
  #unread = 0;
  #wake: (() => void) | undefined;
  /** Trouble was reported while nobody was waiting for it, or too soon after the last round. */
  #nudged = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: BackgroundCheckOptions) {
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
      await this.#pause(well ? this.#untilDue(intervalMs) : this.#troubledMs);
    }
  }

  /** Reads and proves once. Returns whether all was well. */
  async round(): Promise<boolean> {
    const beganAt = this.#options.now();
    const startedAt = performance.now();
    this.#isRunning = true;
    const unread = await this.#read();
    // What was reported up to here is looked into by the proofs that follow.
    this.#nudged = false;
    const proven = await this.#prove(unread);
    const well = proven && unread === undefined;
    if (unread === undefined && this.#options.outage.reason === undefined) this.#checkedAt = beganAt;
    this.#noteReading(unread);
    this.#lastRoundAt = performance.now();
    this.#lastRoundMs = this.#lastRoundAt - startedAt;
    this.#isRunning = false;
    await this.#options.onRound();
    return well;
  }

  /**
   * Reads the token, and returns why it could not be read. However long that takes, the KEKs known so far go on being
   * proven.
   */
  async #read(): Promise<KmsError | undefined> {
    const { keyring, intervalMs } = this.#options;
    const reading = keyring.read().then(
      () => "read" as const,
      (error: unknown) => KmsError.from(error),
    );
    for (;;) {
      const timer = new AbortController();
      const wait = setTimer(Math.min(intervalMs, MEANWHILE_MS), undefined, { signal: timer.signal });
      wait.catch(() => undefined);
      const outcome = await Promise.race([reading, wait]);
      timer.abort();
      if (outcome !== undefined) return outcome === "read" ? undefined : outcome;
      if (keyring.schedule.generations.length > 0) await this.#prove();
    }
  }

  /**
   * Proves the KEKs as last read, and returns whether all of them work. That alone decides whether the HSM is away,
   * unless no KEK is known. @param unread why the token could not be read
   */
  async #prove(unread?: KmsError): Promise<boolean> {
    const { keyring, prover, outage, inUse } = this.#options;
    const { generations } = keyring.schedule;
    try {
      if (unread !== undefined && generations.length === 0) throw unread;
      await prover.prove(generations, inUse());
    } catch (error) {
      // A keyring that could be read but holds nothing usable does not get here: Status says so itself.
      outage.begin(unread ?? KmsError.from(error));
      return false;
    }
    outage.end();
    return generations.every(({ record }) => prover.proofOf(record.keyId).failure === undefined);
  }

  /** A token that cannot be read while its KEKs work is a finding of its own, and is asked less and less often. */
  #noteReading(unread: KmsError | undefined): void {
    const { log, outage } = this.#options;
    const isFinding = unread !== undefined && outage.reason === undefined;
    if (isFinding && this.#unread === 0) log.warn({ err: unread }, "the token's keys cannot be read");
    if (unread === undefined && this.#unread > 0) log.info({}, "the token's keys can be read again");
    this.#unread = isFinding ? this.#unread + 1 : 0;
  }

  /** The time until the next round after one that found something. */
  get #troubledMs(): number {
    return Math.min(this.#options.intervalMs, TROUBLED_INTERVAL_MS * 2 ** Math.max(0, this.#unread - 1));
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
