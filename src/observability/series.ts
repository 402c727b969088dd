// Keeps the series of each pair of labels: prom-client would hash the labels at every call, which noticeably slows a
// cached request.

/** Bounds of the histograms of durations, in seconds. */
export const SECONDS_BUCKETS = [
  0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5,
];

interface Counted {
  readonly count: { inc(): void };
  readonly seconds: { observe(seconds: number): void };
}

/** Caches the series of a metric with two labels. */
export class Series {
  readonly #made = new Map<string, Map<string, Counted>>();
  readonly #make: (first: string, second: string) => Counted;

  constructor(make: (first: string, second: string) => Counted) {
    this.#make = make;
  }

  /** Returns the series of two labels, and makes it on first use. */
  get(first: string, second: string): Counted {
    const known = this.#made.get(first)?.get(second);
    if (known !== undefined) return known;
    const made = this.#make(first, second);
    const ofFirst = this.#made.get(first) ?? new Map<string, Counted>();
    this.#made.set(first, ofFirst.set(second, made));
    return made;
  }
}
