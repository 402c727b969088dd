// Has a starting token host find the KEKs before it is given requests. If it has to read the whole keyring for that,
// later calls may use its reading (first-reading.ts).
import { setTimeout as sleep } from "node:timers/promises";
import type { Log } from "../../log.js";
import type { KekRecord } from "../port.js";
import {
  Op,
  type KeyringReading,
  type ReadingProgress,
  type ReadRequest,
  type ReadSlice,
} from "../wire-calls.js";
import { findAll } from "./find-keks.js";
import { FirstReading } from "./first-reading.js";
import type { HostProcess } from "./host-process.js";
import type { LastReading } from "./last-reading.js";
import { progressLog } from "./progress-log.js";
import { count, readInSlices, type AskForSlice, type SlicePace } from "./slices.js";
import type { RunStep } from "./starts.js";

/** Maximum number of readings while objects cannot be read, and the pause between two readings in ms. */
const MOST_READINGS = 3;
const GAP_MS = 100;

/** What all readings of one token share. */
export interface SharedReadings {
  readonly pace: SlicePace;
  readonly last: LastReading;
  /** Maximum limit for a slice, in ms. */
  readonly startTimeoutMs: number;
  readonly log: Log;
}

/** Makes the readings of the starting hosts of one token. */
export class ReadingAtStart {
  readonly #shared: SharedReadings;
  readonly #first = new FirstReading();
  #progress: ReadingProgress | undefined;

  constructor(shared: SharedReadings) {
    this.#shared = shared;
  }

  /** The end of a message: how far the latest reading has come; empty before the first. */
  get soFar(): string {
    if (this.#progress === undefined) return "";
    const { seen, objects } = this.#progress;
    return `: the token is being read, ${count(seen)} of ${count(objects)} secret keys so far`;
  }

  /**
   * Makes sure that a host finds the KEKs, in steps of its start, and returns them. If a host has read the token
   * before, another one need only find the same KEKs by their CKA_IDs: it is ready soon, however many keys of other
   * applications the token holds. Otherwise it reads the keyring.
   * @throws KmsError
   */
  async read(host: HostProcess, step: RunStep): Promise<readonly KekRecord[]> {
    const { last } = this.#shared;
    const ask = (request: ReadRequest): Promise<ReadSlice> =>
      step("read", () => host.control(Op.readKeks, request));
    const known = last.keks;
    if (known.length > 0 && (await findAll(host, known, ask))) return known;
    const beganAt = performance.now();
    const reading = await this.#readUntilComplete(host, ask);
    if (last.keks.length === 0) last.begin(reading);
    this.#first.record(host, beganAt, reading);
    return reading.keks;
  }

  /** Returns the last reading if this host made it and began it at that time or later. */
  madeOn(host: HostProcess, since: number): ReturnType<FirstReading["madeOn"]> {
    return this.#first.madeOn(host, since);
  }

  /** Forgets the last reading, and ignores one that has begun: the names of the KEKs are replaced. */
  forget(): void {
    this.#first.forget();
  }

  /** A KEK may be among the unreadable objects, and most such errors are temporary. */
  async #readUntilComplete(host: HostProcess, ask: AskForSlice): Promise<KeyringReading> {
    const { pace, startTimeoutMs, log } = this.#shared;
    for (let attempt = 1; ; attempt++) {
      const report = progressLog(log);
      const reading = await readInSlices(host, pace, startTimeoutMs, ask, (progress) => {
        this.#progress = progress;
        report(progress);
      });
      if (reading.unreadable === 0 || attempt === MOST_READINGS) return reading;
      await sleep(GAP_MS);
    }
  }
}
