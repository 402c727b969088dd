// Capped exponential backoff with jitter, so that a token host that dies again and again, on three nodes at
// once, neither spins nor strikes in step.

export interface BackoffLimits {
  readonly firstMs: number;
  readonly capMs: number;
}

/**
 * Returns how long to wait after this many failures in a row: nothing after none, else between half and the
 * whole of `firstMs` doubled each time, up to `capMs`.
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
