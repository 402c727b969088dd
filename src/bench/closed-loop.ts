// One turn of a closed loop: callers that ask again as soon as they are answered, for a time or a number of requests.
import { quantile } from "./statistics.js";

export interface TurnLength {
  /** Least time, in ms, and least number of requests: the turn goes on until both are reached. */
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
 * @param ask makes one request; it is given that request's number within the turn
 * @throws what `ask` throws, once every caller has stopped
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
