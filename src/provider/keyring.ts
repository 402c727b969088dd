// The keyring as last read from the token: polled, re-read on demand for an unknown key_id (shared and rate
// limited, so that hostile key_ids cost the HSM next to nothing), and believed about a missing key only when
// two readings in a row agree. A reading may take longer than a request: it goes on, and the next request for the same
// key_id is answered from it.
import { setTimeout } from "node:timers/promises";
import { KmsError } from "../errors.js";
import type { Hsm, KekRecord } from "../hsm/port.js";
import type { Log } from "../log.js";
import { AbsentKeyIds } from "./absent-key-ids.js";
import {
  findByKeyId,
  readSchedule,
  type Generation,
  type Schedule,
  type SchedulePolicy,
} from "./generations.js";
import type { ReloadSchedule } from "./reload-schedule.js";
import { maskControls, truncate } from "../untrusted-text.js";

/** Least time between the beginnings of two readings that unknown key_ids ask for, in ms. */
const UNKNOWN_REREAD_MS = 1_000;
/** A reading that takes longer than this part of the request timeout is slow. */
const SLOW_PART = 0.5;
/** After a slow reading unknown key_ids leave the token alone for this many times as long as it took. */
const SLOW_PAUSE = 2;

export interface KeyringOptions {
  readonly hsm: Hsm;
  /** Longest that a request waits for a reading, in ms. */
  readonly requestTimeoutMs: number;
  /** What is read once stays: a backup may name thousands of KEKs that are gone, which cost a reading each otherwise. */
  readonly readsOnce?: boolean;
  readonly policy: SchedulePolicy;
  /** The key_id that Encrypt uses now. */
  readonly inUse?: () => string | undefined;
  readonly log: Log;
  /** Called after every reading, with what has come and gone. */
  readonly onRead: (schedule: Schedule, gone: readonly Generation[]) => void;
  /** When libraries are reloaded although nothing seems gone; without it, never. */
  readonly reloads?: ReloadSchedule;
  /** A monotonic clock in ms. */
  readonly now?: () => number;
}

export class Keyring {
  readonly policy: SchedulePolicy;
  readonly #options: KeyringOptions;
  readonly #now: () => number;
  #schedule: Schedule = { generations: [], refused: [] };
  #reading: Promise<Schedule> | undefined;
  /** The reading that unknown key_ids wait for, and when the last such one began. */
  #wanted: Promise<Schedule> | undefined;
  #wantedAt = -Infinity;
  #error: KmsError | undefined;
  #hasRead = false;
  /** Of the last reading by the library that is loaded, whatever came of it. */
  #tookMs = 0;
  #endedAt = -Infinity;
  readonly #absent = new AbsentKeyIds();
  #readAt: number | undefined;

  constructor(options: KeyringOptions) {
    this.#options = options;
    this.policy = options.policy;
    this.#now = options.now ?? (() => performance.now());
  }

  get schedule(): Schedule {
    return this.#schedule;
  }

  /** Whether the token has been read at all since the start. */
  get hasRead(): boolean {
    return this.#hasRead;
  }

  /** When the last reading that succeeded began, by the wall clock in ms since the epoch. */
  get readAt(): number | undefined {
    return this.#readAt;
  }

  /** Why the last reading failed; undefined when it did not. */
  get error(): KmsError | undefined {
    return this.#error;
  }

  /** How long the last reading took, whatever came of it. */
  get tookMs(): number {
    return this.#tookMs;
  }

  /** Reads the token; callers at the same time share one reading. @throws KmsError */
  read(): Promise<Schedule> {
    this.#reading ??= this.#readOnce().finally(() => (this.#reading = undefined));
    return this.#reading;
  }

  /** The generation of a key_id as last read. */
  known(keyId: string): Generation | undefined {
    return findByKeyId(this.#schedule, keyId);
  }

  /**
   * The generation of a key_id, after one re-reading of the token if it is not known, unless it is read only once.
   * @throws KmsError KEY_UNKNOWN; or why the token cannot be asked, within the request timeout
   */
  async find(keyId: string): Promise<Generation> {
    const known = this.known(keyId);
    if (known !== undefined) return known;
    this.#absent.ask(keyId, this.#now());
    // No reading could end in time: the last result stands until the next reading is due.
    if (this.#isSlow && this.#absent.has(keyId) && this.#dueInMs() > 0) throw this.#absence(keyId);
    const found = await this.#inTime(this.#look(keyId), keyId);
    if (found !== undefined) return found;
    throw this.#absence(keyId);
  }

  /** What a key_id that a reading has not shown ends with: a token that has not been read may hold it. */
  #absence(keyId: string): KmsError {
    const state = this.#options.hsm.state();
    return state.up && state.unread !== undefined ? state.unread : unknown(keyId);
  }

  async #look(keyId: string): Promise<Generation | undefined> {
    // A reading that runs already may have passed the key before it was made.
    if (this.#reading !== undefined) await this.#reading;
    const found = findByKeyId(this.#schedule, keyId);
    if (found !== undefined || (this.#hasRead && this.#options.readsOnce === true)) return found;
    return findByKeyId(await this.#readForUnknown(), keyId);
  }

  /** A reading of a slow or hung token takes longer than a request may; it goes on without the request. */
  async #inTime<T>(work: Promise<T>, keyId: string): Promise<T> {
    const { requestTimeoutMs } = this.#options;
    const timer = new AbortController();
    const late = setTimeout(requestTimeoutMs, undefined, { signal: timer.signal }).then(() => {
      if (this.#absent.has(keyId)) throw this.#absence(keyId);
      throw new KmsError(
        "DEADLINE",
        `the HSM's keys could not be read within ${requestTimeoutMs} ms; the reading goes on, so try again`,
      );
    });
    try {
      return await Promise.race([work, late]);
    } finally {
      timer.abort();
    }
  }

  /** One reading for all who ask at the same time; who asks too soon after the last waits rather than be told "unknown". */
  #readForUnknown(): Promise<Schedule> {
    this.#wanted ??= setTimeout(Math.max(0, this.#dueInMs())).then(() => {
      this.#wanted = undefined;
      this.#wantedAt = this.#now();
      return this.read();
    });
    return this.#wanted;
  }

  get #isSlow(): boolean {
    return this.#tookMs > SLOW_PART * this.#options.requestTimeoutMs;
  }

  /** Time until unknown key_ids may have the token read again. */
  #dueInMs(): number {
    const due = this.#isSlow ? this.#endedAt + SLOW_PAUSE * this.#tookMs : this.#wantedAt + UNKNOWN_REREAD_MS;
    return due - this.#now();
  }

  async #readOnce(): Promise<Schedule> {
    const beganAt = this.#now();
    const readAt = Date.now();
    try {
      const read = await this.#readTwiceIfGone();
      this.#error = undefined;
      this.#absent.read(beganAt, (keyId) => findByKeyId(read, keyId) !== undefined);
      this.#readAt = readAt;
      this.#take(read);
      return read;
    } catch (error) {
      this.#error = KmsError.from(error);
      throw this.#error;
    }
  }

  /** Reads by the library that is loaded. How long one has to be loaded says nothing of the token. */
  async #list(): Promise<readonly KekRecord[]> {
    const beganAt = this.#now();
    try {
      return await this.#options.hsm.listKeks();
    } finally {
      this.#endedAt = this.#now();
      this.#tookMs = this.#endedAt - beganAt;
    }
  }

  /** A key that seems gone is looked for once more by a library loaded anew. */
  async #readTwiceIfGone(): Promise<Schedule> {
    const { hsm, policy } = this.#options;
    const anew = this.#hasRead && this.#options.reloads?.claim(this.#schedule.generations) === true;
    const reloaded = anew ? await this.#reload() : undefined;
    if (reloaded !== undefined) return readSchedule(reloaded, policy);
    const first = readSchedule(await this.#list(), policy);
    if (goneFrom(this.#schedule, first).length === 0) return first;
    return readSchedule(await hsm.listKeksReloaded(), policy);
  }

  /** Returns undefined if no library can be loaded: the loaded one is used until the next time. */
  async #reload(): Promise<readonly KekRecord[] | undefined> {
    const { hsm, log } = this.#options;
    try {
      return await hsm.listKeksReloaded();
    } catch (error) {
      log.warn({ err: KmsError.from(error) }, "the keyring could not be read by a freshly loaded library");
      return undefined;
    }
  }

  #take(read: Schedule): void {
    const gone = goneFrom(this.#schedule, read);
    const come = goneFrom(read, this.#schedule);
    const newlyRefused = read.refused.filter(
      ({ record }) => !this.#schedule.refused.some((known) => known.record.keyId === record.keyId),
    );
    this.#schedule = read;
    this.#hasRead = true;
    for (const { record } of come) {
      this.#options.log.info({ keyId: record.keyId, label: record.label }, "KEK found");
    }
    for (const generation of gone) this.#logGone(generation);
    for (const { record, reason } of newlyRefused) {
      this.#options.log.warn({ keyId: record.keyId, label: record.label, reason }, "key refused");
    }
    this.#options.onRead(read, gone);
  }

  /** A KEK that Encrypt does not use has most likely been destroyed on purpose. */
  #logGone({ record: { keyId, label } }: Generation): void {
    const { inUse, log } = this.#options;
    if (inUse?.() === keyId) log.error({ keyId, label }, "the active KEK is gone from the token");
    else log.warn({ keyId, label }, "a KEK that is not active is no longer on the token");
  }
}

function goneFrom(before: Schedule, after: Schedule): Generation[] {
  return before.generations.filter(({ record }) => findByKeyId(after, record.keyId) === undefined);
}

function unknown(keyId: string): KmsError {
  return new KmsError(
    "KEY_UNKNOWN",
    `no KEK with key_id "${truncate(maskControls(keyId), 80)}" is on the token; was it destroyed, or is this another token?`,
  );
}
