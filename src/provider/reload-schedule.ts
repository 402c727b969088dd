// Decides when to read the keyring with a freshly loaded library although nothing seems gone. Some libraries (TPMs) read
// their store only when they are loaded, and continue to encrypt under a KEK that has since been destroyed. Reloads happen
// at an interval and after each instant: a cancelled standby KEK must not become active.
import type { Generation } from "./generations.js";

export interface ReloadOptions {
  /** Between two reloads, in ms; undefined: at instants only, if a reload would leave requests without a token host. */
  readonly everyMs: number | undefined;
  /** Wall clock, ms since the epoch. */
  readonly wallNow?: () => number;
  /** A monotonic clock in ms. */
  readonly now?: () => number;
}

export class ReloadSchedule {
  readonly #everyMs: number;
  readonly #wallNow: () => number;
  readonly #now: () => number;
  #wallAt: number;
  #at: number;

  /** Notes that the libraries have just been loaded. */
  constructor({ everyMs, wallNow = () => Date.now(), now = () => performance.now() }: ReloadOptions) {
    this.#everyMs = everyMs ?? Infinity;
    this.#wallNow = wallNow;
    this.#now = now;
    this.#wallAt = wallNow();
    this.#at = now();
  }

  /** Returns whether the next reading needs a freshly loaded library, and counts that reload as made. */
  claim(generations: readonly Generation[]): boolean {
    const wallNow = this.#wallNow();
    const hasCome = ({ activation }: Generation): boolean =>
      activation > this.#wallAt && activation <= wallNow;
    if (this.#now() - this.#at < this.#everyMs && !generations.some(hasCome)) return false;
    this.#wallAt = wallNow;
    this.#at = this.#now();
    return true;
  }
}
