// How many different values there were, with a bound on the memory that takes: beyond it, "at least so many".

export interface DistinctCount {
  readonly count: number;
  /** There were more than could be told apart. */
  readonly isAtLeast: boolean;
}

/** 100,000 digests or names take about 10 MB. */
const MOST = 100_000;

export class BoundedSet {
  readonly #values = new Set<string>();
  #isFull = false;

  add(value: string): void {
    if (this.#values.size < MOST) this.#values.add(value);
    else if (!this.#values.has(value)) this.#isFull = true;
  }

  get distinct(): DistinctCount {
    return { count: this.#values.size, isAtLeast: this.#isFull };
  }
}
