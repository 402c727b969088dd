// Bounds on memory while reading an etcd of any size. A count of distinct values that exceeds its bound is reported as
// "at least this many"; a number that no cluster reaches is an error.
import { KmsError } from "../errors.js";

/** A limit on the entries of several collections together. */
export class Allowance {
  readonly #max: number;
  #taken = 0;

  constructor(max: number) {
    this.#max = max;
  }

  /** Takes one entry from the allowance; returns false if it is used up. */
  take(): boolean {
    if (this.#taken === this.#max) return false;
    this.#taken++;
    return true;
  }

  /**
   * Takes one entry from the allowance.
   * @param what the entries in the plural, for the message
   * @throws KmsError INPUT_INVALID if the allowance is used up
   */
  require(what: string): void {
    if (this.take()) return;
    throw new KmsError(
      "INPUT_INVALID",
      `etcd holds objects of over ${this.#max} ${what}: is this a cluster's etcd?`,
    );
  }
}

export interface DistinctCount {
  readonly count: number;
  /** There were more values than the allowance permits to distinguish. */
  readonly isAtLeast: boolean;
}

/** The values of a set, in a form that can be sent to another thread. */
export interface DistinctValues {
  readonly values: ReadonlySet<string>;
  readonly isFull: boolean;
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

  get values(): DistinctValues {
    return { values: this.#values, isFull: this.#isFull };
  }

  /** Adds the values of another set. */
  merge({ values, isFull }: DistinctValues): void {
    for (const value of values) this.add(value);
    this.#isFull ||= isFull;
  }
}
