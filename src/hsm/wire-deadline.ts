// The latest start of a call that cannot be undone. The plugin sets it; the token host compares it with the clocks
// immediately before the call, since the search before the call may be slow.

/**
 * An instant by both clocks of this machine: the wall clock may be set back, and the monotonic clock stops while the
 * machine is suspended.
 */
export interface Deadline {
  /** ms since the epoch. */
  readonly wallMs: number;
  readonly monotonicMs: number;
}

/** Returns the deadline at this wall-clock time. @param wallMs ms since the epoch */
export function deadlineAt(wallMs: number): Deadline {
  return { wallMs, monotonicMs: monotonicNow() + wallMs - Date.now() };
}

/** Returns whether either clock has passed the deadline. */
export function hasPassed({ wallMs, monotonicMs }: Deadline): boolean {
  return Date.now() > wallMs || monotonicNow() > monotonicMs;
}

/** Returns CLOCK_MONOTONIC in ms, which all processes of a machine share. */
function monotonicNow(): number {
  return Number(process.hrtime.bigint() / 1_000_000n);
}
