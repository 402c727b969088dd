// What is told of repeated measurements: the median and the quartiles about it. A mean would follow the one
// repetition in which the machine had something else to do.

export interface Spread {
  readonly median: number;
  /** First and third quartile. */
  readonly low: number;
  readonly high: number;
}

/**
 * The value below which `part` of the values lie, between two of them by proportion.
 * @throws RangeError when there are none
 */
export function quantile(values: readonly number[], part: number): number {
  const sorted = [...values].sort((one, other) => one - other);
  const at = part * (sorted.length - 1);
  const below = sorted[Math.floor(at)];
  const above = sorted[Math.ceil(at)];
  if (below === undefined || above === undefined) throw new RangeError("no values to take a quantile of");
  return below + (above - below) * (at - Math.floor(at));
}

export function spreadOf(values: readonly number[]): Spread {
  return { median: quantile(values, 0.5), low: quantile(values, 0.25), high: quantile(values, 0.75) };
}

/** Ratios of values that were measured in turn, pair by pair: what disturbed both cancels out. */
export function ratioOf(ours: readonly number[], theirs: readonly number[]): Spread {
  if (ours.length !== theirs.length) throw new RangeError("ratios need as many values on either side");
  return spreadOf(ours.map((value, at) => value / (theirs[at] ?? NaN)));
}
