// The readings of the token that requests for unknown key_ids demand: a reading that began after a request arrived answers
// it. They are shared and rate-limited, so that hostile key_ids cost the HSM next to nothing. A reading may outlast the
// request that demanded it; the next request for the same key_id uses its result.
import { setTimeout } from "node:timers/promises";
import { KmsError } from "../errors.js";
import { AbsentKeyIds } from "./absent-key-ids.js";
import { findByKeyId, type Generation, type Schedule } from "./generations.js";
import { ReadingTurns } from "./reading-turns.js";

/** A reading is slow if it takes longer than this fraction of the request timeout. */
const SLOW_PART = 0.5;
/** After a slow reading, unknown key_ids trigger no other for this multiple of its duration. */
const SLOW_PAUSE = 2;

/** The keyring for which readings are demanded. */
export interface KeyringOnDemand {
  readonly schedule: Schedule;
  /** The schedule is at least as new as this, by the monotonic clock. */
  readonly freshness: number;
  /** Whether the token has been read since the start. */
  readonly hasRead: boolean;
  /** How long the last reading took, in ms. */
  readonly tookMs: number;
  /** When that reading ended, by the monotonic clock. */
  readonly endedAt: number;
  /** The reading in progress. */
  readonly reading: Promise<Schedule> | undefined;
  /** Reads the token. */
  read(): Promise<Schedule>;
}

/** What is known of the other clusters that this process serves. */
export interface OtherClusters {
  /** Limits how often unknown key_ids have the token read, for all clusters on it together. */
  readonly turns: ReadingTurns;
  /** Returns whether another cluster has the KEK with this key_id, so that it cannot belong to this one. */
  have(keyId: string): boolean;
}

/** The limits of readings on demand. */
export interface DemandOptions {
  /** Maximum time that a request waits for a reading, in ms. */
  readonly requestTimeoutMs: number;
  /** Reads the token only once. */
  readonly readsOnce?: boolean;
  /** The other clusters of this process; undefined if there are none. */
  readonly otherClusters?: OtherClusters | undefined;
  /** A monotonic clock in ms. */
  readonly now: () => number;
}

/** Finds a generation by a key_id. */
type LookUp = (schedule: Schedule, keyId: string) => Generation | undefined;

/** Has the token read for key_ids that the keyring does not hold. */
export class DemandedReadings {
  readonly #keyring: KeyringOnDemand;
  readonly #options: DemandOptions;
  readonly #turns: ReadingTurns;
  readonly #absent = new AbsentKeyIds();
  /** The reading that unknown key_ids wait for. */
  #wanted: Promise<Schedule> | undefined;

  constructor(keyring: KeyringOnDemand, options: DemandOptions) {
    this.#keyring = keyring;
    this.#options = options;
    this.#turns = options.otherClusters?.turns ?? new ReadingTurns();
  }

  /**
   * Returns what a look-up finds in a schedule whose reading began after the request arrived; undefined if it finds
   * nothing, or if another cluster has the key_id.
   * @throws KmsError why the token cannot be read; DEADLINE if the reading outlasts the request
   */
  async find(keyId: string, arrivedAt: number, lookUp: LookUp): Promise<Generation | undefined> {
    if (this.#options.otherClusters?.have(keyId) === true) return undefined;
    this.#absent.ask(keyId, arrivedAt);
    // No reading would end in time: the last result is used until the next reading is due.
    if (this.#isSlow && this.#absent.has(keyId) && this.#slowPauseMs > 0) return undefined;
    return this.#untilTimeout(this.#findByReading(keyId, arrivedAt, lookUp), keyId);
  }

  /** Notes which key_ids a complete reading has shown to be absent. @param since when it began, at the latest */
  noteReading(read: Schedule, since: number): void {
    this.#absent.read(since, (keyId) => findByKeyId(read, keyId) !== undefined);
  }

  async #findByReading(keyId: string, arrivedAt: number, lookUp: LookUp): Promise<Generation | undefined> {
    // The token may have been read for others while this request waited for its turn.
    for (;;) {
      const found = lookUp(this.#keyring.schedule, keyId);
      if (found !== undefined || this.#keyring.freshness >= arrivedAt) return found;
      if (this.#keyring.hasRead && this.#options.readsOnce === true) return undefined;
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
    if (this.#keyring.reading !== undefined) await this.#keyring.reading;
    if (this.#keyring.freshness >= arrivedAt) return;
    this.#wanted ??= this.#readInTurn();
    await this.#wanted;
  }

  async #readInTurn(): Promise<Schedule> {
    if (this.#isSlow) await setTimeout(Math.max(0, this.#slowPauseMs));
    await this.#turns.next();
    // A reading that has begun may be too old for the last of the requests.
    while (this.#keyring.reading !== undefined) await this.#keyring.reading.catch(() => undefined);
    this.#wanted = undefined;
    return this.#keyring.read();
  }

  get #isSlow(): boolean {
    return this.#keyring.tookMs > SLOW_PART * this.#options.requestTimeoutMs;
  }

  /** The time until a slowly read token may be read again for an unknown key_id. */
  get #slowPauseMs(): number {
    const { endedAt, tookMs } = this.#keyring;
    return endedAt + SLOW_PAUSE * tookMs - this.#options.now();
  }
}
