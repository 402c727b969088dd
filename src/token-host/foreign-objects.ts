// Handles of secret keys that belong to other applications, so that a reading does not ask for their labels again: a
// shared partition holds thousands of them, and each costs a round trip. A handle number may come to mean another
// object once its own has been destroyed. So one that a search no longer shows is forgotten, and every other is looked
// at again after a while: sooner than a KEK becomes active that was made with the default delay.
import type { Handle } from "pkcs11js";

/** Least and most time until a handle is looked at for the second time; later on, always the most. In ms. */
const FIRST_CHECK_MS = 60_000;
const CHECK_MS = 5 * 60_000;

export class ForeignObjects {
  readonly #checkAt = new Map<string, number>();
  readonly #now: () => number;

  /** @param now a monotonic clock in ms */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** Forgets what the latest search does not show. */
  keepOnly(shown: readonly Handle[]): void {
    if (this.#checkAt.size === 0) return;
    const present = new Set(shown.map(numberOf));
    for (const handle of this.#checkAt.keys()) if (!present.has(handle)) this.#checkAt.delete(handle);
  }

  /** Whether a handle is known to be another application's, and need not be looked at now. */
  has(object: Handle): boolean {
    return (this.#checkAt.get(numberOf(object)) ?? -Infinity) > this.#now();
  }

  /** Notes what has just been looked at. The second looks are spread, so that no reading has to make them all. */
  add(object: Handle): void {
    const handle = numberOf(object);
    const waitMs = this.#checkAt.has(handle)
      ? CHECK_MS
      : FIRST_CHECK_MS + Math.random() * (CHECK_MS - FIRST_CHECK_MS);
    this.#checkAt.set(handle, this.#now() + waitMs);
  }

  /** Forgets all: handle numbers may have been given out again. */
  clear(): void {
    this.#checkAt.clear();
  }
}

function numberOf(object: Handle): string {
  return object.toString("latin1");
}
