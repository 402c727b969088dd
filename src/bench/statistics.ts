// The statistics of repeated measurements: the median and the quartiles. A mean would follow the one repetition in
// which the machine was busy with something else.

export interface Spread {
  readonly median: number;
  /** First and third quartile. */
  readonly low: number;
  readonly high: number;
}

/**
 * Returns the value below which `part` (0 to 1) of the values lie, interpolated between two of them.
 * @throws RangeError if there are no values
 */
export function quantile(values: readonly number[], part: number): number {
  const sorted = [...values].sort((one, other) => one - other);
  const at = part * (sorted.length - 1);
  const below = sorted[Math.floor(at)];
  const above = sorted[Math.ceil(at)];
  if (below === undefined || above === undefined) throw new RangeError("no values to take a quantile of");
  return below + (above - below) * (at - Math.floor(at));
}

/** Returns median and quartiles. @throws RangeError if there are no values */
export function spreadOf(values: readonly number[]): Spread {
  return { median: quantile(values, 0.5), low: quantile(values, 0.25), high: quantile(values, 0.75) };
}

/** Returns the ratios of values that were measured in turn, pair by pair: a disturbance of both cancels out. */
export function ratioOf(ours: readonly number[], theirs: readonly number[]): Spread {
  if (ours.length !== theirs.length) {
    throw new RangeError("ratios need the same number of values on both sides");
  }
  return spreadOf(ours.map((value, at) => value / (theirs[at] ?? NaN)));
}
