// Runs the provider's background work: reads the keyring and proves every generation, at an interval and soon after a
// request reported trouble. No request waits for it. The HSM is away if operations under the KEKs fail. If they
// succeed, a token that is slow to read or cannot be read is a separate finding.
import { setTimeout as sleep } from "node:timers/promises";
import { KmsError } from "../errors.js";
import type { Log } from "../log.js";
import { meansHsmAway } from "../hsm/away.js";
import type { Generation } from "./generations.js";
import type { Health } from "./health.js";
import type { Keyring } from "./keyring.js";
import type { Prover } from "./prover.js";

/** What a round checks, and how often. */
export interface BackgroundCheckOptions {
  readonly keyring: Keyring;
  readonly prover: Prover;
  readonly health: Health;
  /** Time between two rounds while all is well, in ms; the activation of a KEK brings a round forward. */
  readonly intervalMs: number;
  /**
   * Maximum age of another cluster's reading that a round at the interval may use instead of its own, in ms; 0 if
   * omitted.
   */
  readonly maxReadingAgeMs?: number | undefined;
  /** Returns the key_id that Encrypt uses now: if that KEK does not answer, the HSM is away. */
  readonly inUse: () => string | undefined;
  /** Wall clock, ms since the epoch. */
  readonly now: () => number;
  readonly log: Log;
  /** Called after every round, including a failed one. */
  readonly onRound: () => void | Promise<void>;
}

/** Time between two rounds during an outage or while a KEK fails, in ms. */
const TROUBLED_INTERVAL_MS = 1_000;
/** Maximum time between two proofs during a reading, in ms. */
const PROOF_GAP_MS = 1_000;
/** Minimum gap between rounds triggered by failed requests, in ms. */
const MIN_GAP_MS = 200;
/** Minimum gap between rounds requested over HTTP, in ms, and as a multiple of the last round's duration. */
const REFRESH_MS = 3_000;
const REFRESH_SHARE = 5;

/** Reads and proves the KEKs round after round. */
export class BackgroundCheck {
  readonly #options: BackgroundCheckOptions;
  #lastRoundAt = -Infinity;
  #lastRoundMs = 0;
  #isRunning = false;
  /** Whether the next round reads the token itself. */
  #readsItself = false;
  /** Consecutive readings that failed while the KEKs worked. */
  #failedReadings = 0;
  /** Consecutive rounds in which only KEKs that are not in use failed. */
  #failedProofs = 0;
  /** Aborted to end the pause before the next round. */
  #wake = new AbortController();

  constructor(options: BackgroundCheckOptions) {
    this.#options = options;
  }

  /** Checks round after round until the signal aborts; never throws. */
  async run(signal: AbortSignal): Promise<void> {
    signal.addEventListener("abort", () => {
      this.requestRound();
    });
    while (!signal.aborted) {
      const isWell = await this.#round();
      await this.#pause(this.#untilActivation(isWell ? this.#options.intervalMs : this.#troubledMs), signal);
    }
  }

  /** Requests a round as soon as possible; if one is running, another one after it. */
  requestRound(): void {
    this.#wake.abort();
  }

  /** Requests a round for an HTTP client. Ignores the request if the last round ended a short time ago. */
  refresh(): void {
    const idleMs = performance.now() - this.#lastRoundAt;
    const gapMs = Math.max(REFRESH_MS, REFRESH_SHARE * this.#lastRoundMs);
    if (this.#isRunning || idleMs < gapMs) return;
    this.#readsItself = true;
    this.requestRound();
  }

  /** Reads and proves once. Returns whether all was well. */
  async #round(): Promise<boolean> {
    const { health, now, onRound } = this.#options;
    const beganAt = now();
    const startedAt = performance.now();
    this.#isRunning = true;
    const maxAgeMs = this.#maxAgeMs;
    this.#readsItself = false;
    const readingError = await this.#read(maxAgeMs);
    // The proofs that follow cover everything that requests have reported up to now.
    this.#wake = new AbortController();
    const areProven = await this.#prove(readingError);
    if (readingError === undefined && !health.isOutage) health.noteCheck(beganAt - maxAgeMs);
    this.#noteReading(readingError);
    this.#lastRoundAt = performance.now();
    this.#lastRoundMs = this.#lastRoundAt - startedAt;
    this.#isRunning = false;
    await onRound();
    return areProven && readingError === undefined;
  }

  /**
   * Reads the token, and meanwhile proves the KEKs that are already known. Returns why the reading failed; undefined if
   * it succeeded.
   */
  async #read(maxAgeMs: number): Promise<KmsError | undefined> {
    const { keyring, intervalMs } = this.#options;
    const reading = keyring.read(maxAgeMs).then(
      () => keyring.error ?? ("read" as const),
      (error: unknown) => KmsError.from(error),
    );
    for (;;) {
      const timer = new AbortController();
      const wait = sleep(Math.min(intervalMs, PROOF_GAP_MS), undefined, { signal: timer.signal });
      wait.catch(() => undefined);
      const outcome = await Promise.race([reading, wait]);
      timer.abort();
      if (outcome !== undefined) return outcome === "read" ? undefined : outcome;
      if (keyring.schedule.generations.length > 0) await this.#prove();
    }
  }

  /**
   * Proves the KEKs as last read, and returns whether all of them work. Only these proofs decide whether the HSM is
   * away, unless no KEK is known. @param readingError why the token could not be read
   */
  async #prove(readingError?: KmsError): Promise<boolean> {
    const { keyring, prover, inUse } = this.#options;
    const { outage } = this.#options.health;
    const { generations } = keyring.schedule;
    try {
      if (readingError !== undefined && generations.length === 0) throw readingError;
      await prover.prove(generations, inUse());
    } catch (error) {
      // A keyring that was read but holds no usable KEK does not throw: Status reports it.
      outage.begin(readingError ?? KmsError.from(error));
      return false;
    }
    // Only the reading shows whether the KEK was destroyed or its token is away.
    if (this.#isGone(generations)) {
      if (readingError !== undefined && meansHsmAway(readingError)) outage.begin(readingError);
      return false;
    }
    outage.end();
    const used = inUse();
    const keyIds = generations.map(({ record }) => record.keyId);
    const unproven = keyIds.filter(
      (keyId) => prover.isUntried(keyId) || prover.proofOf(keyId).failure !== undefined,
    );
    const isUrgent =
      used === undefined || unproven.some((keyId) => keyId === used || prover.isUntried(keyId));
    this.#failedProofs = unproven.length === 0 || isUrgent ? 0 : this.#failedProofs + 1;
    return unproven.length === 0;
  }

  /**
   * Returns whether the loaded library does not find the KEK in use, or any KEK if none is in use. A library whose token
   * is away may show it as empty.
   */
  #isGone(generations: readonly Generation[]): boolean {
    const { prover } = this.#options;
    const inUse = this.#options.inUse();
    const used = generations.filter(({ record }) => inUse === undefined || record.keyId === inUse);
    return (
      used.length > 0 &&
      used.every(({ record }) => prover.proofOf(record.keyId).failure?.code === "KEY_MISSING")
    );
  }

  /** A token that cannot be read while its KEKs work is a separate finding, and is retried less and less often. */
  #noteReading(error: KmsError | undefined): void {
    const { log, health } = this.#options;
    const isFinding = error !== undefined && !health.isOutage;
    if (isFinding && this.#failedReadings === 0) log.warn({ err: error }, "the token's keys cannot be read");
    if (error === undefined && this.#failedReadings > 0) log.info({}, "the token's keys can be read again");
    this.#failedReadings = isFinding ? this.#failedReadings + 1 : 0;
  }

  /**
   * The time until the next round after one that found trouble. A retired KEK that fails may do so for good, and trying every
   * mechanism again each second would load the HSM.
   */
  get #troubledMs(): number {
    const { intervalMs } = this.#options;
    const rounds = Math.max(1, this.#failedReadings, this.#failedProofs);
    return Math.min(intervalMs, TROUBLED_INTERVAL_MS * 2 ** (rounds - 1));
  }

  /**
   * Maximum age in ms of the reading that the next round uses: 0 after an activation, since the round must show that
   * the token still holds the KEK.
   */
  get #maxAgeMs(): number {
    const { keyring, now, health, maxReadingAgeMs = 0 } = this.#options;
    const { checkedAt = -Infinity } = health;
    const isDue = keyring.schedule.generations.some(
      ({ activation }) => activation > checkedAt && activation <= now(),
    );
    return this.#readsItself || isDue ? 0 : maxReadingAgeMs;
  }

  /**
   * The time until the next activation in ms, at most `limitMs`: a round checks every KEK once more before it is used.
   */
  #untilActivation(limitMs: number): number {
    const { keyring, now, health } = this.#options;
    const waits = keyring.schedule.generations
      .filter(({ activation }) => activation > (health.checkedAt ?? -Infinity))
      .map(({ activation }) => Math.max(0, activation - now()));
    return Math.min(limitMs, ...waits);
  }

  /** Waits for `ms`, or until a round is requested, but at least for the minimum gap. Ends when the signal aborts. */
  async #pause(ms: number, signal: AbortSignal): Promise<void> {
    await sleepUntil(Math.min(ms, MIN_GAP_MS), signal);
    if (signal.aborted) return;
    await sleepUntil(ms - MIN_GAP_MS, this.#wake.signal);
    this.#wake = new AbortController();
  }
}

/** Resolves after `ms`, or when the signal aborts. */
async function sleepUntil(ms: number, signal: AbortSignal): Promise<void> {
  if (ms > 0) await sleep(ms, undefined, { signal }).catch(() => undefined);
}
