// Waits for what has no event: polls a condition until it holds, and names the condition in the error if it does not.

export interface WaitOptions {
  /** What is awaited, for the error. */
  readonly what?: string;
  /** Default 20,000 ms: a limit for a condition that never holds, not a measure of speed. */
  readonly timeoutMs?: number;
  /** Pause between two checks. Default 10 ms. */
  readonly intervalMs?: number;
}

/**
 * Returns the first value of `condition` that is neither undefined, null nor false. A condition that throws or
 * rejects counts as not holding yet; its last error becomes the cause of the timeout's error.
 */
export async function waitFor<T>(
  condition: () => T | Promise<T>,
  { what = "the condition", timeoutMs = 20_000, intervalMs = 10 }: WaitOptions = {},
): Promise<Exclude<T, undefined | null | false>> {
  const deadline = performance.now() + timeoutMs;
  let cause: unknown;
  for (;;) {
    try {
      const value = await condition();
      if (value !== undefined && value !== null && value !== false) {
        return value as Exclude<T, undefined | null | false>;
      }
      cause = undefined;
    } catch (error) {
      cause = error;
    }
    if (performance.now() >= deadline) {
      throw new Error(`waited ${timeoutMs} ms in vain for ${what}`, { cause });
    }
    await new Promise((resolve) => setTimeout(resolve, intervalMs));
  }
}
