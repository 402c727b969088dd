// The keyring as last read from the token. It is read at an interval, and for an unknown key_id on demand
// (demanded-readings.ts). A KEK counts as removed only if a second reading, by a reloaded library, agrees.
import { KmsError } from "../errors.js";
import type { Hsm } from "../hsm/port.js";
import type { Log } from "../log.js";
import { DemandedReadings, type KeyringOnDemand, type OtherClusters } from "./demanded-readings.js";
import {
  findByKeyId,
  findForDecrypt,
  generationsOnlyIn,
  type Generation,
  type Schedule,
  type SchedulePolicy,
} from "./generations.js";
import { logChanges } from "./keyring-log.js";
import type { ReloadSchedule } from "./reload-schedule.js";
import { ScheduleReader } from "./schedule-reader.js";
import { maskControls, truncate } from "../untrusted-text.js";

/** The HSM to read, and the limits and consequences of a reading. */
export interface KeyringOptions {
  readonly hsm: Hsm;
  /** Maximum time that a request waits for a reading, in ms. */
  readonly requestTimeoutMs: number;
  /** Reads the token only once: a backup may name thousands of destroyed KEKs, and each would cost a reading. */
  readonly readsOnce?: boolean;
  readonly policy: SchedulePolicy;
  /** Returns the key_id that Encrypt uses now. */
  readonly inUse?: () => string | undefined;
  readonly log: Log;
  /** Called after every reading, with the schedule and the generations that were removed. */
  readonly onRead: (schedule: Schedule, gone: readonly Generation[]) => void;
  /** When to reload libraries although no KEK seems to be removed; undefined: never. */
  readonly reloads?: ReloadSchedule;
  /** The other clusters of this process; undefined if there are none. */
  readonly otherClusters?: OtherClusters | undefined;
  /** A monotonic clock in ms: performance.now() if omitted. */
  readonly now?: () => number;
}

/** Holds the schedule as last read, and reads it again. */
export class Keyring implements KeyringOnDemand {
  readonly policy: SchedulePolicy;
  readonly #options: KeyringOptions;
  readonly #now: () => number;
  readonly #reader: ScheduleReader;
  #schedule: Schedule = { generations: [], refused: [] };
  readonly #demanded: DemandedReadings;
  #reading: Promise<Schedule> | undefined;
  #freshness = -Infinity;
  #error: KmsError | undefined;
  #readAt: number | undefined;

  constructor(options: KeyringOptions) {
    this.#options = options;
    this.policy = options.policy;
    this.#now = options.now ?? (() => performance.now());
    this.#reader = new ScheduleReader({ ...options, now: this.#now });
    this.#demanded = new DemandedReadings(this, { ...options, now: this.#now });
  }

  get schedule(): Schedule {
    return this.#schedule;
  }

  /** The schedule is at least as new as this, by the monotonic clock: -Infinity before the first reading. */
  get freshness(): number {
    return this.#freshness;
  }

  /** Whether the token has been read since the start. */
  get hasRead(): boolean {
    return this.#freshness > -Infinity;
  }

  /** When the last reading that succeeded began, by the wall clock in ms since the epoch. */
  get readAt(): number | undefined {
    return this.#readAt;
  }

  /**
   * Why the last reading failed, or why its result may be outdated: the library could not be reloaded after an
   * activation. Undefined if it succeeded.
   */
  get error(): KmsError | undefined {
    return this.#error;
  }

  /** How long the last reading took, in ms, successful or not. */
  get tookMs(): number {
    return this.#reader.tookMs;
  }

  /** When that reading ended, by the monotonic clock. */
  get endedAt(): number {
    return this.#reader.endedAt;
  }

  /** The reading in progress, if there is one. */
  get reading(): Promise<Schedule> | undefined {
    return this.#reading;
  }

  /**
   * Reads the token. Callers at the same time share one reading.
   * @param maxAgeMs maximum age of another cluster's reading that may be used instead
   * @throws KmsError
   */
  read(maxAgeMs = 0): Promise<Schedule> {
    this.#reading ??= this.#readOnce(maxAgeMs).finally(() => (this.#reading = undefined));
    return this.#reading;
  }

  /** Returns the generation that decrypts what is stored under a key_id, as last read. */
  known(keyId: string): Generation | undefined {
    return findForDecrypt(this.#schedule, keyId);
  }

  /**
   * Returns the generation that decrypts what is stored under a key_id. If there is none, waits for a reading that began
   * after the request arrived, unless the token is read only once.
   * @param arrivedAt by the monotonic clock
   * @throws KmsError KEY_UNKNOWN if no KEK has it; within the request timeout, why the token cannot be read
   */
  async find(keyId: string, arrivedAt = this.#now()): Promise<Generation> {
    const found = this.known(keyId) ?? (await this.#demanded.find(keyId, arrivedAt, findForDecrypt));
    if (found !== undefined) return found;
    throw this.#absence(keyId);
  }

  /**
   * Returns the generation that has a key_id now, and undefined if none has; reads the token again as `find` does.
   * @throws KmsError why the token cannot be read
   */
  async findNamed(keyId: string, arrivedAt: number): Promise<Generation | undefined> {
    return findByKeyId(this.#schedule, keyId) ?? (await this.#demanded.find(keyId, arrivedAt, findByKeyId));
  }

  /**
   * Returns the error for a key_id that no reading has shown: KEY_UNKNOWN, unless a token that could not be read may
   * hold the KEK.
   */
  #absence(keyId: string): KmsError {
    const state = this.#options.hsm.state();
    return state.up && state.unread !== undefined ? state.unread : unknown(keyId);
  }

  async #readOnce(maxAgeMs: number): Promise<Schedule> {
    const since = this.#now() - maxAgeMs;
    const readAt = Date.now() - maxAgeMs;
    try {
      const previous = this.hasRead ? this.#schedule : undefined;
      const { schedule: read, failedReload } = await this.#reader.read(previous, maxAgeMs);
      this.#error = failedReload;
      this.#demanded.noteReading(read, since);
      if (failedReload === undefined) this.#readAt = readAt;
      this.#take(read, since);
      return read;
    } catch (error) {
      this.#error = KmsError.from(error);
      throw this.#error;
    }
  }

  #take(read: Schedule, since: number): void {
    const { inUse, log, onRead } = this.#options;
    const before = this.#schedule;
    this.#schedule = read;
    this.#freshness = since;
    logChanges(log, { before, read, inUse: inUse?.() });
    onRead(read, generationsOnlyIn(before, read));
  }
}

function unknown(keyId: string): KmsError {
  return new KmsError(
    "KEY_UNKNOWN",
    `no KEK with key_id "${truncate(maskControls(keyId), 80)}" is on the token; was it destroyed, or is this another token?`,
  );
}
