// By when a token host must have begun a call that cannot be taken back. The plugin's side sets it, the token host
// compares it with the clocks immediately before the call, since the search before the call may be slow.

/**
 * One moment by both clocks of this machine: the wall clock may be set back, and the monotonic one stands still while a
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

export function hasPassed({ wallMs, monotonicMs }: Deadline): boolean {
  return Date.now() > wallMs || monotonicNow() > monotonicMs;
}

/** CLOCK_MONOTONIC, which a process shares with its children. */
function monotonicNow(): number {
  return Number(process.hrtime.bigint() / 1_000_000n);
}
