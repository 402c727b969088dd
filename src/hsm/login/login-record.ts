// The memory of logins, by token: PINs that were refused or accepted, and attempts without a clear answer.
import type { Log } from "../../log.js";

export interface PinRecord {
  readonly id: string;
  /** Where the PIN came from. */
  readonly source: string;
  /** Of the source when the PIN was read. */
  readonly stamp: string;
  /** Distinguishes a refused PIN from most others and reveals almost nothing (pin-digest.ts). */
  readonly mark?: number;
  readonly reason: string;
  readonly at: string;
  /** Attempts that had no clear answer; left out where the PIN was refused or accepted. */
  readonly unanswered?: number;
}

export type PinRecords = readonly PinRecord[];

/** Where records outlive the process. */
export interface LoginStore {
  /** The file to remove to have everything forgotten; undefined where records go with the process. */
  readonly path: string | undefined;
  /** The latest first. @throws Error when what is stored cannot be read */
  load(token: string): PinRecords;
  /** @throws Error when it cannot be stored */
  save(token: string, records: PinRecords): Promise<void>;
  /** Forgets everything, which needs no disk space. @throws Error */
  clear(): void;
}

export interface LoginStores {
  /** PINs that were refused, and attempts that had no clear answer. */
  readonly refused: LoginStore;
  /** PINs that have logged in: for these, a missing answer is an outage, not a wrong PIN. */
  readonly accepted: LoginStore;
  /**
   * Does `work` while no other process reads, tries and records a PIN of this token. If no lock can be made, `work`
   * runs without one and receives the reason.
   */
  exclusively(token: string, work: (unlocked?: unknown) => Promise<void>): Promise<void>;
}

/** Enough records to recognise the last few PINs of one token. */
const MOST_RECORDS = 8;

export class LoginRecord {
  readonly #memory: LoginStore;
  readonly #log: Log;
  /** What the memory did not take. */
  readonly #unsaved = new Map<string, PinRecords>();

  constructor(memory: LoginStore, log: Log) {
    this.#memory = memory;
    this.#log = log;
  }

  /** @throws Error when what is stored cannot be read */
  of(token: string): PinRecords {
    return this.#unsaved.get(token) ?? this.#memory.load(token);
  }

  /** @throws Error when it cannot be stored, and is not remembered either */
  async save(token: string, records: PinRecords): Promise<void> {
    await this.#memory.save(token, records.slice(0, MOST_RECORDS));
    this.#unsaved.delete(token);
  }

  /** Remembers for the life of the process what cannot be stored. Returns whether it was stored. */
  async put(token: string, records: PinRecords): Promise<boolean> {
    try {
      await this.save(token, records);
      return true;
    } catch (error) {
      this.keep(token, records);
      this.#log.error(
        { err: error },
        "cannot record a login in the state directory; it is remembered until the next restart only",
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
