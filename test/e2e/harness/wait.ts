// Waits for conditions: a probe is repeated until it succeeds. No test sleeps for a fixed time to let something happen.

import { setTimeout as sleep } from "node:timers/promises";
import type { ManagedProcess } from "./process.js";

export interface WaitOptions {
  readonly timeoutMs?: number;
  readonly intervalMs?: number;
  /**
   * The process that must keep running: the wait fails at once if it ends, and every failure shows the end of its log.
   */
  readonly process?: ManagedProcess;
}

/**
 * Repeats the probe until it returns a value other than undefined or false, and returns that value. A probe that throws
 * is repeated. Throws after timeoutMs (default 30,000), with the last error and the log.
 */
export async function until<T>(
  what: string,
  probe: () => Promise<T | undefined | false> | T | undefined | false,
  options: WaitOptions = {},
): Promise<T> {
  const { timeoutMs = 30_000, intervalMs = 50, process } = options;
  const deadline = Date.now() + timeoutMs;
  let last: unknown;
  for (;;) {
    try {
      const answer = await probe();
      if (answer !== undefined && answer !== false) return answer;
      last = undefined;
    } catch (error) {
      last = error;
    }
    const ending = process?.ending;
    if (ending !== undefined || Date.now() > deadline) {
      const reason =
        ending === undefined ? `not within ${timeoutMs} ms` : `${process?.name ?? ""} ended: ${ending}`;
      const log = process === undefined ? "" : `\n--- end of ${process.logFile}\n${process.logTail()}`;
      throw new Error(`${what}: ${reason}${log}`, { cause: last });
    }
    await sleep(intervalMs);
  }
}
