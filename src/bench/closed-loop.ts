// One turn of a closed loop: callers that send the next request as soon as the last one is answered, for a minimum time
// and a minimum number of requests.
import { quantile } from "./statistics.js";

export interface TurnLength {
  /** Minimum time in ms and minimum number of requests; the turn continues until both are reached. */
  readonly leastMs: number;
  readonly leastRequests: number;
}

export interface Turn {
  readonly requests: number;
  readonly seconds: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

/**
 * Runs one turn and returns its timing.
 * @param ask makes one request; its argument is the request's number in the turn, from 0
 * @throws the error of `ask`, after every caller has stopped
 */
export async function runTurn(
  ask: (number: number) => Promise<unknown>,
  concurrency: number,
  { leastMs, leastRequests }: TurnLength,
): Promise<Turn> {
  const times: number[] = [];
  const startedAt = performance.now();
  let begun = 0;
  let failed = false;
  const call = async (): Promise<void> => {
    let last = performance.now();
    while (!failed && (begun < leastRequests || last - startedAt < leastMs)) {
      await ask(begun++);
      const now = performance.now();
      times.push(now - last);
      last = now;
    }
  };
  const ended = await Promise.allSettled(
    Array.from({ length: concurrency }, () =>
      call().catch((error: unknown) => {
        failed = true;
        throw error;
      }),
    ),
  );
  for (const end of ended) if (end.status === "rejected") throw end.reason;
  const seconds = (performance.now() - startedAt) / 1000;
  return { requests: times.length, seconds, p50Ms: quantile(times, 0.5), p99Ms: quantile(times, 0.99) };
}
