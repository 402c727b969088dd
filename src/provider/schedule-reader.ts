// Makes one reading of the schedule from the token: with the loaded library, with a reloaded one when the reload
// schedule claims it, and again with a reloaded one before a KEK counts as removed. It does not decide when to read.
import { KmsError } from "../errors.js";
import type { Hsm, KekRecord } from "../hsm/port.js";
import type { Log } from "../log.js";
import { generationsOnlyIn, readSchedule, type Schedule, type SchedulePolicy } from "./generations.js";
import type { ReloadSchedule } from "./reload-schedule.js";

/** The HSM to read, and how to interpret its keys. */
export interface ScheduleReaderOptions {
  readonly hsm: Hsm;
  readonly policy: SchedulePolicy;
  readonly log: Log;
  /** When to reload libraries although no KEK seems to be removed; undefined: never. */
  readonly reloads?: ReloadSchedule;
  /** A monotonic clock in ms. */
  readonly now: () => number;
}

/** The result of a reading. */
export interface ScheduleReading {
  readonly schedule: Schedule;
  /** Why the reload after an activation failed: the loaded library may show a KEK that has been destroyed. */
  readonly failedReload: KmsError | undefined;
}

/** Reads the schedule from the token. */
export class ScheduleReader {
  readonly #options: ScheduleReaderOptions;
  #tookMs = 0;
  #endedAt = -Infinity;

  constructor(options: ScheduleReaderOptions) {
    this.#options = options;
  }

  /** Duration of the last reading by the loaded library in ms, successful or not. */
  get tookMs(): number {
    return this.#tookMs;
  }

  /** When that reading ended, by the monotonic clock. */
  get endedAt(): number {
    return this.#endedAt;
  }

  /**
   * Reads the token.
   * @param previous the last schedule; undefined before the first reading
   * @param maxAgeMs maximum age of another cluster's reading that may be used instead
   * @throws KmsError
   */
  async read(previous: Schedule | undefined, maxAgeMs: number): Promise<ScheduleReading> {
    const { hsm, policy, reloads } = this.#options;
    const claim = previous && reloads?.claim(previous.generations);
    let failedReload: KmsError | undefined;
    if (previous !== undefined && reloads !== undefined && claim !== undefined) {
      const reloaded = await this.#readReloaded(previous, reloads, claim === "interval" ? maxAgeMs : 0);
      if (!(reloaded instanceof KmsError)) {
        return { schedule: reloaded, failedReload: undefined };
      }
      // A failed reload at the interval is not reported: it only looks for changes that the loaded library does not
      // show, and the next one will find them.
      if (claim === "activation") failedReload = reloaded;
    }
    const schedule = readSchedule(await this.#list(maxAgeMs), policy);
    if (previous === undefined || generationsOnlyIn(previous, schedule).length === 0) {
      return { schedule, failedReload };
    }
    const reloaded = readSchedule(await hsm.listKeksReloaded(), policy);
    if (claim !== undefined) reloads?.noteReload();
    return { schedule: reloaded, failedReload: undefined };
  }

  /** Reads with the loaded library. The time that a reload takes says nothing about the token. */
  async #list(maxAgeMs: number): Promise<readonly KekRecord[]> {
    const { hsm, now } = this.#options;
    const beganAt = now();
    try {
      return await hsm.listKeks(maxAgeMs);
    } finally {
      this.#endedAt = now();
      this.#tookMs = this.#endedAt - beganAt;
    }
  }

  /** Reads with a reloaded library, and compares what the loaded one showed before. Returns the error if that fails. */
  async #readReloaded(
    previous: Schedule,
    reloads: ReloadSchedule,
    maxAgeMs: number,
  ): Promise<Schedule | KmsError> {
    const { hsm, policy, log } = this.#options;
    const loaded = await this.#list(maxAgeMs).catch(() => undefined);
    try {
      const reloaded = readSchedule(await hsm.listKeksReloaded(maxAgeMs), policy);
      reloads.noteReload();
      if (loaded !== undefined) {
        reloads.learn({ previous, loaded: readSchedule(loaded, policy), reloaded }, log);
      }
      return reloaded;
    } catch (error) {
      const failure = KmsError.from(error);
      log.warn({ err: failure }, "the keyring could not be read by a reloaded library");
      return failure;
    }
  }
}
