// The keyring as last read from the token. It is read at an interval, and on demand for an unknown key_id; these
// readings are shared and rate-limited, so that hostile key_ids cost the HSM next to nothing. A KEK counts as removed
// only if a second reading, by a reloaded library, agrees. A reading may outlast the request that triggered it; the
// next request for the same key_id uses its result.
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
import type { ReloadSchedule } from "./reload-schedule.js";
import { ScheduleReader } from "./schedule-reader.js";
import { maskControls, truncate } from "../untrusted-text.js";

/** Minimum time between the beginnings of two readings triggered by unknown key_ids, in ms. */
const UNKNOWN_REREAD_MS = 1_000;
/** A reading is slow if it takes longer than this share of the request timeout. */
const SLOW_PART = 0.5;
/** After a slow reading, unknown key_ids trigger none for this multiple of its duration. */
const SLOW_PAUSE = 2;

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
  /** A monotonic clock in ms. */
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
  #reading: Promise<Schedule> | undefined;
  /** The reading that unknown key_ids wait for, and when the last such reading began. */
  #wanted: Promise<Schedule> | undefined;
  #wantedAt = -Infinity;
  #error: KmsError | undefined;
  #hasRead = false;
  readonly #absent = new AbsentKeyIds();
  #readAt: number | undefined;

  constructor(options: KeyringOptions) {
    this.#options = options;
    this.policy = options.policy;
    this.#now = options.now ?? (() => performance.now());
    this.#reader = new ScheduleReader({ ...options, now: this.#now });
  }

  get schedule(): Schedule {
    return this.#schedule;
  }

  /** Whether the token has been read since the start. */
  get hasRead(): boolean {
    return this.#hasRead;
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
   * @param maxAgeMs how long ago another cluster may have begun the reading
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
   * Returns the generation that decrypts what is stored under a key_id; reads the token again if there is none, unless the
   * token is read only once.
   * @throws KmsError KEY_UNKNOWN if no KEK has it; within the request timeout, why the token cannot be read
   */
  async find(keyId: string): Promise<Generation> {
    const found = this.known(keyId) ?? (await this.#search(keyId, findForDecrypt));
    if (found !== undefined) return found;
    throw this.#absence(keyId);
  }

  /**
   * Returns the generation that has a key_id now, and undefined if none has; reads the token again as `find` does.
   * @throws KmsError why the token cannot be read
   */
  async findNamed(keyId: string): Promise<Generation | undefined> {
    return findByKeyId(this.#schedule, keyId) ?? (await this.#search(keyId, findByKeyId));
  }

  async #search(keyId: string, lookUp: LookUp): Promise<Generation | undefined> {
    this.#absent.ask(keyId, this.#now());
    // No reading would end in time: the last result is used until the next reading is due.
    if (this.#isSlow && this.#absent.has(keyId) && this.#dueInMs() > 0) return undefined;
    return this.#untilTimeout(this.#findByReading(keyId, lookUp), keyId);
  }

  /** Returns the error for a key_id that no reading has shown. A token that has not been read may hold it. */
  #absence(keyId: string): KmsError {
    const state = this.#options.hsm.state();
    return state.up && state.unread !== undefined ? state.unread : unknown(keyId);
  }

  async #findByReading(keyId: string, lookUp: LookUp): Promise<Generation | undefined> {
    // A reading in progress may have passed the key's position before the key was made.
    if (this.#reading !== undefined) await this.#reading;
    const found = lookUp(this.#schedule, keyId);
    if (found !== undefined || (this.#hasRead && this.#options.readsOnce === true)) return found;
    return lookUp(await this.#readForUnknown(), keyId);
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

  /** Shares one reading among simultaneous callers. After a recent reading they wait, rather than get "unknown". */
  #readForUnknown(): Promise<Schedule> {
    this.#wanted ??= setTimeout(Math.max(0, this.#dueInMs())).then(() => {
      this.#wanted = undefined;
      this.#wantedAt = this.#now();
      return this.read();
    });
    return this.#wanted;
  }

  get #isSlow(): boolean {
    return this.#reader.tookMs > SLOW_PART * this.#options.requestTimeoutMs;
  }

  /** Returns the time until an unknown key_id may trigger a reading again. */
  #dueInMs(): number {
    const { endedAt, tookMs } = this.#reader;
    const due = this.#isSlow ? endedAt + SLOW_PAUSE * tookMs : this.#wantedAt + UNKNOWN_REREAD_MS;
    return due - this.#now();
  }

  async #readOnce(maxAgeMs: number): Promise<Schedule> {
    const beganAt = this.#now() - maxAgeMs;
    const readAt = Date.now() - maxAgeMs;
    try {
      const previous = this.#hasRead ? this.#schedule : undefined;
      const { schedule: read, failedReload } = await this.#reader.read(previous, maxAgeMs);
      this.#error = failedReload;
      this.#absent.read(beganAt, (keyId) => findByKeyId(read, keyId) !== undefined);
      if (failedReload === undefined) this.#readAt = readAt;
      this.#take(read);
      return read;
    } catch (error) {
      this.#error = KmsError.from(error);
      throw this.#error;
    }
  }

  #take(read: Schedule): void {
    const gone = generationsOnlyIn(this.#schedule, read);
    const come = generationsOnlyIn(read, this.#schedule);
    const newlyRefused = read.refused.filter(
      ({ record }) => !this.#schedule.refused.some((known) => known.record.keyId === record.keyId),
    );
    this.#schedule = read;
    this.#hasRead = true;
    for (const { record } of come) {
      this.#options.log.info({ keyId: record.keyId, label: record.label }, "KEK found");
    }
    for (const generation of gone) this.#logGone(generation, read);
    for (const { record, reason } of newlyRefused) {
      this.#options.log.warn({ keyId: record.keyId, label: record.label, reason }, "key refused");
    }
    this.#options.onRead(read, gone);
  }

  /** A KEK that Encrypt does not use was most likely destroyed on purpose. */
  #logGone({ record: { keyId, label } }: Generation, read: Schedule): void {
    const { inUse, log } = this.#options;
    const renamed = findForDecrypt(read, keyId)?.record.keyId;
    if (renamed !== undefined) {
      log.warn(
        { keyId, label, now: renamed },
        "the HSM no longer computes the same fingerprint for this KEK, so its key_id has changed; it still decrypts what is stored under the earlier key_id",
      );
    } else if (inUse?.() === keyId) log.error({ keyId, label }, "the active KEK is gone from the token");
    else log.warn({ keyId, label }, "a KEK that is not active is no longer on the token");
  }
}

function unknown(keyId: string): KmsError {
  return new KmsError(
    "KEY_UNKNOWN",
    `no KEK with key_id "${truncate(maskControls(keyId), 80)}" is on the token; was it destroyed, or is this another token?`,
  );
}
