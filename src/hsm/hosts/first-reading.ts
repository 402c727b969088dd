// The reading that a token host makes when it starts. It answers whoever asked for the KEKs before it began, since reading
// twice takes a slow token long.
import type { KekRecord } from "../port.js";
import type { KeyringReading } from "../wire-calls.js";
import type { HostProcess } from "./host-process.js";

/** The KEKs that a reading showed. */
export interface DatedKeks {
  readonly keks: readonly KekRecord[];
  /** When the reading began, at the earliest, by performance.now(). */
  readonly beganAt: number;
}

interface Made {
  readonly host: HostProcess;
  readonly beganAt: number;
  readonly tookMs: number;
  readonly reading: KeyringReading;
}

/** Holds the last reading that a host of one token made when it started. */
export class FirstReading {
  #made: Made | undefined;
  /** By performance.now(). */
  #forgottenAt = -Infinity;

  /** Records a reading that has just ended, if it is whole. */
  record(host: HostProcess, beganAt: number, reading: KeyringReading): void {
    const isUsable = reading.unreadable === 0 && beganAt > this.#forgottenAt;
    this.#made = isUsable ? { host, beganAt, tookMs: performance.now() - beganAt, reading } : undefined;
  }

  /** Forgets it, and ignores one that has begun: the names of the KEKs are replaced. */
  forget(): void {
    this.#forgottenAt = performance.now();
    this.#made = undefined;
  }

  /** Returns it if this host made it and began it at that time or later. */
  madeOn(host: HostProcess, since: number): Made | undefined {
    return this.#made?.host === host && this.#made.beganAt >= since ? this.#made : undefined;
  }
}
