// Bounds on what is remembered of an etcd of any size. Distinct values beyond theirs are told as "at least so many";
// of what no cluster has that many of, more is an error.
import { KmsError } from "../errors.js";

/** How many entries several collections may have together. */
export class Allowance {
  readonly #most: number;
  #taken = 0;

  constructor(most: number) {
    this.#most = most;
  }

  /** Whether there is room for one more, which is then taken. */
  take(): boolean {
    if (this.#taken === this.#most) return false;
    this.#taken++;
    return true;
  }

  /** @throws KmsError INPUT_INVALID when there is no room for one more of them */
  insist(what: string): void {
    if (this.take()) return;
    throw new KmsError(
      "INPUT_INVALID",
      `etcd holds objects of over ${this.#most} ${what}: is this a cluster's etcd?`,
    );
  }
}

export interface DistinctCount {
  readonly count: number;
  /** There were more than could be told apart. */
  readonly isAtLeast: boolean;
}

export class BoundedSet {
  readonly #values = new Set<string>();
  readonly #allowance: Allowance;
  #isFull = false;

  constructor(allowance: Allowance) {
    this.#allowance = allowance;
  }

  add(value: string): void {
    if (this.#values.has(value)) return;
    if (this.#allowance.take()) this.#values.add(value);
    else this.#isFull = true;
  }

  get distinct(): DistinctCount {
    return { count: this.#values.size, isAtLeast: this.#isFull };
  }
}
