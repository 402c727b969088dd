// The keyring as last read from the token. It is read at an interval, and on demand for an unknown key_id: a reading that
// began after a request arrived answers it. These readings are shared and rate-limited, so that hostile key_ids cost the
// HSM next to nothing. A KEK counts as removed only if a second reading, by a reloaded library, agrees. A reading may
// outlast the request that triggered it; the next request for the same key_id uses its result.
import { setTimeout } from "node:timers/promises";
import { KmsError } from "../errors.js";
import type { Hsm } from "../hsm/port.js";
import type { Log } from "../log.js";
import { AbsentKeyIds } from "./absent-key-ids.js";
import {
  findByKeyId,
  findForDecrypt,
  generationsOnlyIn,
  type Generation,
  type Schedule,
  type SchedulePolicy,
} from "./generations.js";
import { logChanges } from "./keyring-log.js";
import { ReadingTurns } from "./reading-turns.js";
import type { ReloadSchedule } from "./reload-schedule.js";
import { ScheduleReader } from "./schedule-reader.js";
import { maskControls, truncate } from "../untrusted-text.js";

/** A reading is slow if it takes longer than this fraction of the request timeout. */
const SLOW_PART = 0.5;
/** After a slow reading, unknown key_ids trigger no other for this multiple of its duration. */
const SLOW_PAUSE = 2;

/** What is known of the other clusters that this process serves. */
export interface OtherClusters {
  /** Limits how often unknown key_ids have the token read, for all clusters on it together. */
  readonly turns: ReadingTurns;
  /** Returns whether another cluster has the KEK with this key_id, so that it cannot belong to this one. */
  have(keyId: string): boolean;
}

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

/** Finds a generation by a key_id. */
type LookUp = (schedule: Schedule, keyId: string) => Generation | undefined;

/** Holds the schedule as last read, and reads it again. */
export class Keyring {
  readonly policy: SchedulePolicy;
  readonly #options: KeyringOptions;
  readonly #now: () => number;
  readonly #reader: ScheduleReader;
  #schedule: Schedule = { generations: [], refused: [] };
  readonly #turns: ReadingTurns;
  #reading: Promise<Schedule> | undefined;
  /** The reading that unknown key_ids wait for. */
  #wanted: Promise<Schedule> | undefined;
  /** The schedule is at least as new as this, by the monotonic clock. */
  #freshness = -Infinity;
  #error: KmsError | undefined;
  readonly #absent = new AbsentKeyIds();
  #readAt: number | undefined;

  constructor(options: KeyringOptions) {
    this.#options = options;
    this.policy = options.policy;
    this.#now = options.now ?? (() => performance.now());
    this.#turns = options.otherClusters?.turns ?? new ReadingTurns();
    this.#reader = new ScheduleReader({ ...options, now: this.#now });
  }

  get schedule(): Schedule {
    return this.#schedule;
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
    const found = this.known(keyId) ?? (await this.#search(keyId, arrivedAt, findForDecrypt));
    if (found !== undefined) return found;
    throw this.#absence(keyId);
  }

  /**
   * Returns the generation that has a key_id now, and undefined if none has; reads the token again as `find` does.
   * @throws KmsError why the token cannot be read
   */
  async findNamed(keyId: string, arrivedAt: number): Promise<Generation | undefined> {
    return findByKeyId(this.#schedule, keyId) ?? (await this.#search(keyId, arrivedAt, findByKeyId));
  }

  async #search(keyId: string, arrivedAt: number, lookUp: LookUp): Promise<Generation | undefined> {
    if (this.#options.otherClusters?.have(keyId) === true) return undefined;
    this.#absent.ask(keyId, arrivedAt);
    // No reading would end in time: the last result is used until the next reading is due.
    if (this.#isSlow && this.#absent.has(keyId) && this.#slowPauseMs > 0) return undefined;
    return this.#untilTimeout(this.#findByReading(keyId, arrivedAt, lookUp), keyId);
  }

  /**
   * Returns the error for a key_id that no reading has shown: KEY_UNKNOWN, unless a token that could not be read may
   * hold the KEK.
   */
  #absence(keyId: string): KmsError {
    const state = this.#options.hsm.state();
    return state.up && state.unread !== undefined ? state.unread : unknown(keyId);
  }

  async #findByReading(keyId: string, arrivedAt: number, lookUp: LookUp): Promise<Generation | undefined> {
    // The token may have been read for others while this request waited for its turn.
    for (;;) {
      const found = lookUp(this.#schedule, keyId);
      if (found !== undefined || this.#freshness >= arrivedAt) return found;
      if (this.hasRead && this.#options.readsOnce === true) return undefined;
      await this.#readForUnknown(arrivedAt);
    }
  }

  /** Waits for a reading no longer than a request may take; a slow reading continues without the request. */
  async #untilTimeout<T>(work: Promise<T>, keyId: string): Promise<T | undefined> {
    const { requestTimeoutMs } = this.#options;
    const timer = new AbortController();
    const late = setTimeout(requestTimeoutMs, undefined, { signal: timer.signal }).then(() => {
      if (this.#absent.has(keyId)) return undefined;
      throw new KmsError(
        "DEADLINE",
        `the HSM's keys could not be read within ${requestTimeoutMs} ms; the reading continues, so try again`,
      );
    });
    try {
      return await Promise.race([work, late]);
    } finally {
      timer.abort();
    }
  }

  /** Shares the next reading among all requests that arrive before it. */
  async #readForUnknown(arrivedAt: number): Promise<void> {
    // An earlier reading may have passed the key's position before the key was made.
    if (this.#reading !== undefined) await this.#reading;
    if (this.#freshness >= arrivedAt) return;
    this.#wanted ??= this.#readInTurn();
    await this.#wanted;
  }

  async #readInTurn(): Promise<Schedule> {
    if (this.#isSlow) await setTimeout(Math.max(0, this.#slowPauseMs));
    await this.#turns.next();
    // A reading that has begun may be too old for the last of the requests.
    while (this.#reading !== undefined) await this.#reading.catch(() => undefined);
    this.#wanted = undefined;
    return this.read();
  }

  get #isSlow(): boolean {
    return this.#reader.tookMs > SLOW_PART * this.#options.requestTimeoutMs;
  }

  /** The time until a slowly read token may be read again for an unknown key_id. */
  get #slowPauseMs(): number {
    const { endedAt, tookMs } = this.#reader;
    return endedAt + SLOW_PAUSE * tookMs - this.#now();
  }

  async #readOnce(maxAgeMs: number): Promise<Schedule> {
    const since = this.#now() - maxAgeMs;
    const readAt = Date.now() - maxAgeMs;
    try {
      const previous = this.hasRead ? this.#schedule : undefined;
      const { schedule: read, failedReload } = await this.#reader.read(previous, maxAgeMs);
      this.#error = failedReload;
      this.#absent.read(since, (keyId) => findByKeyId(read, keyId) !== undefined);
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
