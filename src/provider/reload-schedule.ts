// When a keyring is read by a library loaded anew although nothing seems gone: some libraries read their store only when
// they are loaded (TPMs), and go on encrypting under a KEK that was destroyed since. So now and then, and whenever an
// instant has come since the last time: a standby KEK that was cancelled must not become active.
import type { Generation } from "./generations.js";

export interface ReloadOptions {
  /** Between two of them, in ms; undefined: at instants only, where a reload would leave requests without a token host. */
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

  /** The libraries are loaded now. */
  constructor({ everyMs, wallNow = () => Date.now(), now = () => performance.now() }: ReloadOptions) {
    this.#everyMs = everyMs ?? Infinity;
    this.#wallNow = wallNow;
    this.#now = now;
    this.#wallAt = wallNow();
    this.#at = now();
  }

  /** Returns whether the next reading is to be by a library loaded anew; asked once for each, it counts as made. */
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
