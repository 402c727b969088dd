// A rendering that concurrent requests share: how often it is made, and for whom.

import { afterEach, beforeEach, expect, it, vi } from "vitest";

import { RenderingBudget, SharedRendering } from "../../src/observability/shared-rendering.js";

beforeEach(() => {
  vi.useFakeTimers();
});

afterEach(() => {
  vi.useRealTimers();
});

const FOREVER = new AbortController().signal;

/** Returns a rendering that takes this long and contains its number. */
function rendering(ms: number): { shared: SharedRendering<number>; count: () => number } {
  let count = 0;
  const shared = new SharedRendering(async () => {
    await new Promise((resolve) => setTimeout(resolve, ms));
    count += 1;
    return count;
  }, new RenderingBudget());
  return { shared, count: () => count };
}

it("a shared rendering takes a few milliseconds of each second, however often requested", async () => {
  const { shared, count } = rendering(5);
  let answered = 0;
  const ask = async (): Promise<void> => {
    await shared.get(FOREVER);
    answered += 1;
    void ask();
  };
  for (let asking = 0; asking < 100; asking++) void ask();
  // First uses up the renderings that were saved in a quiet time.
  await vi.advanceTimersByTimeAsync(2_000);
  const begun = count();
  await vi.advanceTimersByTimeAsync(20_000);
  expect(count() - begun).toBeGreaterThanOrEqual(18);
  expect(count() - begun).toBeLessThanOrEqual(22);
  expect(answered).toBeGreaterThan(100 * (count() - 2));
});

it("the shared rendering begins after the question, also while another one runs", async () => {
  const { shared } = rendering(10);
  const first = shared.get(FOREVER);
  await vi.advanceTimersByTimeAsync(5);
  const second = shared.get(FOREVER);
  await vi.advanceTimersByTimeAsync(30);
  expect(await Promise.all([first, second])).toEqual([1, 2]);
});

it("the shared rendering is not made for somebody who has gone", async () => {
  const { shared, count } = rendering(1);
  const gone = new AbortController();
  void shared.get(gone.signal);
  gone.abort();
  await vi.advanceTimersByTimeAsync(2_000);
  expect(count()).toBe(0);
});

it("the shared rendering fails for those who wait, not for the next", async () => {
  let fails = true;
  const shared = new SharedRendering(() => {
    if (fails) throw new TypeError("no metrics");
    return "metrics";
  }, new RenderingBudget());
  const failed = expect(shared.get(FOREVER)).rejects.toThrow("no metrics");
  await vi.advanceTimersByTimeAsync(1);
  await failed;
  fails = false;
  const next = shared.get(FOREVER);
  await vi.advanceTimersByTimeAsync(1);
  expect(await next).toBe("metrics");
});
