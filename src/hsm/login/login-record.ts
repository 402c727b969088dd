// Records logins to each token: PINs that were refused or accepted, and attempts without a clear answer. If a record
// cannot be stored, it is kept until the process ends.
import type { Log } from "../../log.js";

/** The record of one PIN on one token. */
export interface PinRecord {
  readonly id: string;
  /** Where the PIN came from. */
  readonly source: string;
  /** The stamp of the source when the PIN was read. */
  readonly stamp: string;
  /** Distinguishes a refused PIN from most others and reveals almost nothing (pin-digest.ts). */
  readonly mark?: number;
  readonly reason: string;
  readonly at: string;
  /** Number of attempts that had no clear answer; omitted if the PIN was refused or accepted. */
  readonly unanswered?: number;
}

/** The records of one token, the latest first. */
export type PinRecords = readonly PinRecord[];

/** Where records are stored. */
export interface LoginStore {
  /** The file whose removal deletes the records; undefined if they end with the process. */
  readonly path: string | undefined;
  /** Returns the records of a token, the latest first, or throws an Error if they cannot be read. */
  load(token: string): PinRecords;
  /** Replaces the records of a token, or throws an Error if they cannot be stored. */
  save(token: string, records: PinRecords): Promise<void>;
  /** Deletes all records, which needs no disk space. @throws Error */
  clear(): void;
}

/** Where logins are recorded, and the lock around them. */
export interface LoginStores {
  /** PINs that were refused, and attempts without a clear answer. */
  readonly refused: LoginStore;
  /** PINs that have logged in: for these, a missing answer is an outage, not a wrong PIN. */
  readonly accepted: LoginStore;
  /**
   * Runs `work` while no other process reads, tries and records a PIN of this token. If no lock can be made, `work`
   * runs without one and receives the reason.
   */
  exclusively(token: string, work: (unlocked?: unknown) => Promise<void>): Promise<void>;
}

/** Enough records to recognise the last few PINs of one token. */
const MOST_RECORDS = 8;

/** Reads and writes the records of one kind, and keeps in memory those that cannot be stored. */
export class LoginRecord {
  readonly #memory: LoginStore;
  readonly #log: Log;
  /** Records that could not be stored. */
  readonly #unsaved = new Map<string, PinRecords>();

  constructor(memory: LoginStore, log: Log) {
    this.#memory = memory;
    this.#log = log;
  }

  /** Returns the records of a token, the latest first, or throws an Error if they cannot be read. */
  of(token: string): PinRecords {
    return this.#unsaved.get(token) ?? this.#memory.load(token);
  }

  /** Stores the latest records, or throws an Error and keeps none of them. */
  async save(token: string, records: PinRecords): Promise<void> {
    await this.#memory.save(token, records.slice(0, MOST_RECORDS));
    this.#unsaved.delete(token);
  }

  /** Stores the records, or keeps them until the process ends. Returns whether they were stored. */
  async put(token: string, records: PinRecords): Promise<boolean> {
    try {
      await this.save(token, records);
      return true;
    } catch (error) {
      this.keep(token, records);
      this.#log.error(
        { err: error },
        "cannot record a login in the state directory; it is remembered only until the next restart",
      );
      return false;
    }
  }

  keep(token: string, records: PinRecords): void {
    this.#unsaved.set(token, records.slice(0, MOST_RECORDS));
  }

  clear(): void {
    try {
      this.#memory.clear();
    } catch (error) {
      this.#log.error({ err: error }, "cannot remove a record from the state directory");
    }
  }
}
