// Capped exponential backoff with jitter: a token host that dies repeatedly, perhaps on three nodes at once, is neither
// restarted without pause nor on all nodes at the same moment.

export interface BackoffLimits {
  readonly firstMs: number;
  readonly capMs: number;
}

/**
 * Returns how long to wait, in ms, after this many failures in a row: 0 after none; else `firstMs`, doubled with each
 * further failure up to `capMs`, times a random factor between 0.5 and 1.
 */
export function backoffMs(
  failures: number,
  limits: BackoffLimits,
  random: () => number = Math.random,
): number {
  if (failures <= 0) return 0;
  const ceiling = Math.min(limits.capMs, limits.firstMs * 2 ** Math.min(failures - 1, 30));
  return ceiling * (0.5 + 0.5 * random());
}
