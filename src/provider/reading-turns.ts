// Decides when unknown key_ids have the token read: a few times at once, then at a fixed rate. Clusters that share a token
// share its turns too, so that the number of clusters does not multiply what hostile key_ids cost the HSM.
import { setTimeout as sleep } from "node:timers/promises";

/** Number of readings that need not wait after a quiet time. */
const BURST = 5;
/** Time after which one more reading need not wait, in ms. */
const REFILL_MS = 1_000;

/** Gives out turns to read a token. */
export class ReadingTurns {
  readonly #now: () => number;
  readonly #wait: (ms: number) => Promise<void>;
  #free = BURST;
  #refilledAt: number;
  #next: Promise<void> | undefined;

  /** @param now a monotonic clock in ms */
  constructor(now = () => performance.now(), wait: (ms: number) => Promise<void> = sleep) {
    this.#now = now;
    this.#wait = wait;
    this.#refilledAt = now();
  }

  /** Resolves at the next turn, which all callers until then share. */
  next(): Promise<void> {
    this.#next ??= this.#wait(this.#untilFreeMs()).then(() => {
      this.#next = undefined;
      this.#refill();
      this.#free -= 1;
    });
    return this.#next;
  }

  #untilFreeMs(): number {
    this.#refill();
    return this.#free >= 1 ? 0 : Math.ceil((1 - this.#free) * REFILL_MS);
  }

  #refill(): void {
    const now = this.#now();
    this.#free = Math.min(BURST, this.#free + (now - this.#refilledAt) / REFILL_MS);
    this.#refilledAt = now;
  }
}
