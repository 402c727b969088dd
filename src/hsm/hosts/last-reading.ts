// Holds the last reading of one token's keyring, made on any of its hosts: its KEKs, and what was wrong with it.
import { KmsError } from "../../errors.js";
import type { Log } from "../../log.js";
import type { KekRecord } from "../port.js";
import type { KeyringReading } from "../wire-calls.js";
import { count, seconds } from "./slices.js";

/** Duration above which a reading is reported as a finding, in ms. */
const SLOW_MS = 5_000;

/** Holds the KEKs of a token's last reading, and its finding. */
export class LastReading {
  readonly #log: Log;
  #keks: readonly KekRecord[] = [];
  #unreadable = 0;
  #finding: string | undefined;
  #hasShownKeks = false;

  constructor(log: Log) {
    this.#log = log;
  }

  /** The KEKs that it showed; none before the first reading. */
  get keks(): readonly KekRecord[] {
    return this.#keks;
  }

  /** What is wrong with it; undefined if nothing is. */
  get finding(): string | undefined {
    return this.#finding;
  }

  /** Whether it or an earlier reading has shown KEKs, and `confirmEmpty` has not been called since. */
  get hasShownKeks(): boolean {
    return this.#hasShownKeks;
  }

  /** Records that two reloaded libraries have agreed that the token holds no KEK. */
  confirmEmpty(): void {
    this.#hasShownKeks = false;
  }

  /** Replaces it with the first reading of a starting host. */
  begin({ keks, unreadable }: KeyringReading): void {
    this.#keks = keks;
    this.#unreadable = unreadable;
    this.#hasShownKeks ||= keks.length > 0;
  }

  /**
   * Replaces it with a later reading.
   * @throws KmsError if a KEK is missing and more objects than before could not be read: it may be among those
   */
  replace(reading: KeyringReading, tookMs: number): void {
    this.#refuseIfHidden(reading);
    this.#find(reading, tookMs);
    this.begin(reading);
  }

  #refuseIfHidden(reading: KeyringReading): void {
    if (reading.unreadable <= this.#unreadable) return;
    const shown = new Set(reading.keks.flatMap(({ keyId, aliases }) => [keyId, ...aliases]));
    if (this.#keks.every(({ keyId }) => shown.has(keyId))) return;
    throw new KmsError("HSM_UNAVAILABLE", describeUnreadable(reading));
  }

  #find(reading: KeyringReading, tookMs: number): void {
    const { objects, unreadable } = reading;
    const slow =
      `reading the token takes ${seconds(tookMs)}, since it holds ${count(objects)} secret keys; ` +
      "give the KEK a partition of its own, or raise keys.refreshInterval";
    const finding = unreadable > 0 ? describeUnreadable(reading) : tookMs > SLOW_MS ? slow : undefined;
    if (finding !== undefined && this.#finding === undefined) this.#log.warn({ objects, tookMs }, finding);
    this.#finding = finding;
  }
}

function describeUnreadable({ objects, unreadable, unreadableReason }: KeyringReading): string {
  return `${count(unreadable)} of ${count(objects)} secret keys on the token cannot be read: ${unreadableReason}`;
}
