// What is remembered of logins, by token: a PIN that was refused or accepted, or an attempt without an answer. A state
// directory that cannot be written stops nobody: then this process alone remembers.
import type { Log } from "../log.js";

export interface PinRecord {
  /** Of the PIN's source. */
  readonly stamp: string;
  readonly reason: string;
  readonly at: string;
  /** Attempts that had no answer; left out where the PIN was refused. */
  readonly unanswered?: number;
}

/** Where records outlive the process. */
export interface PinMemory {
  /** The file to remove to have everything forgotten; undefined where records go with the process. */
  readonly place: string | undefined;
  load(token: string): PinRecord | undefined;
  save(token: string, record: PinRecord | undefined): void;
}

export interface PinMemories {
  /** PINs that were refused, and attempts that had no answer. */
  readonly refused: PinMemory;
  /** The PIN that last logged in: what has no answer then is an outage, not a wrong PIN. */
  readonly accepted: PinMemory;
}

export class PinHistory {
  readonly #memory: PinMemory;
  readonly #log: Log;
  /** What the memory did not take. */
  readonly #unsaved = new Map<string, PinRecord | undefined>();

  constructor(memory: PinMemory, log: Log) {
    this.#memory = memory;
    this.#log = log;
  }

  of(token: string): PinRecord | undefined {
    return this.#unsaved.has(token) ? this.#unsaved.get(token) : this.#memory.load(token);
  }

  put(token: string, record: PinRecord | undefined): void {
    try {
      this.#memory.save(token, record);
      this.#unsaved.delete(token);
    } catch (error) {
      this.#unsaved.set(token, record);
      this.#log.error(
        { err: error },
        "cannot record logins in the state directory; a refused PIN is remembered until the next restart only",
      );
    }
  }
}
