// Handles of secret keys that belong to other applications, so that a reading does not fetch their labels again: a
// shared partition holds thousands of them, and each costs a call. A handle number may come to mean another object
// after its own has been destroyed. So a handle that a search no longer returns is forgotten, and every other is checked
// again within an hour. A KEK that hides behind a reused handle until then is found by its CKA_ID when a ciphertext
// names it, and by every reading with a reloaded library.
import type { Handle } from "pkcs11js";

/**
 * Shortest and longest time until a handle is checked for the second time, in ms; later checks follow after the
 * longest.
 */
const FIRST_CHECK_MS = 10 * 60_000;
const CHECK_MS = 60 * 60_000;

/** Remembers the handles of other applications' secret keys. */
export class ForeignObjects {
  readonly #checkAt = new Map<string, number>();
  readonly #now: () => number;

  /** @param now a monotonic clock in ms */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** Forgets handles that the latest search did not return. */
  keepOnly(shown: readonly Handle[]): void {
    if (this.#checkAt.size === 0) return;
    const present = new Set(shown.map(numberOf));
    for (const handle of this.#checkAt.keys()) if (!present.has(handle)) this.#checkAt.delete(handle);
  }

  /** Returns whether a handle is known to be another application's and does not need a check now. */
  has(object: Handle): boolean {
    return (this.#checkAt.get(numberOf(object)) ?? -Infinity) > this.#now();
  }

  /** Records a handle as checked. The second checks are spread out, so that no reading has to make all of them. */
  add(object: Handle): void {
    const handle = numberOf(object);
    const waitMs = this.#checkAt.has(handle)
      ? CHECK_MS
      : FIRST_CHECK_MS + Math.random() * (CHECK_MS - FIRST_CHECK_MS);
    this.#checkAt.set(handle, this.#now() + waitMs);
  }

  /** Forgets a handle that denotes a KEK, or may. */
  delete(object: Handle): void {
    this.#checkAt.delete(numberOf(object));
  }

  /** Forgets all handles: their numbers may have been reused. */
  clear(): void {
    this.#checkAt.clear();
  }
}

function numberOf(object: Handle): string {
  return object.toString("latin1");
}
