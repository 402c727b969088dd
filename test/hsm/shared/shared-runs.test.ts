// Work that several callers share: who gets the result of which run.

import { expect, it } from "vitest";

import { SharedRuns } from "../../../src/hsm/shared/shared-runs.js";
import { waitFor } from "../../support/wait.js";

/** Work whose runs are counted and end when the test says so. */
function counted(): { readonly runs: SharedRuns<number>; end: () => void; count: () => number } {
  let begun = 0;
  const ends: (() => void)[] = [];
  const runs = new SharedRuns(
    () =>
      new Promise<number>((resolve) => {
        const number = ++begun;
        ends.push(() => {
          resolve(number);
        });
      }),
  );
  const end = (): void => {
    for (const one of ends.splice(0)) one();
  };
  return { runs, end, count: () => begun };
}

async function ended(get: Promise<number>, end: () => void): Promise<number> {
  const timer = setInterval(end, 1);
  try {
    return await get;
  } finally {
    clearInterval(timer);
  }
}

it("simultaneous callers share one run, and a later caller gets another", async () => {
  const { runs, end, count } = counted();
  const together = Promise.all(Array.from({ length: 100 }, () => runs.get(60_000)));
  expect(
    await ended(
      together.then(([first]) => first ?? 0),
      end,
    ),
  ).toBe(1);
  expect(await ended(runs.get(60_000), end)).toBe(1);
  expect(await ended(runs.get(0), end)).toBe(2);
  expect(count()).toBe(2);
});

it("a caller that allows no age does not get the result of a run that has begun", async () => {
  const { runs, end, count } = counted();
  const first = runs.get(0);
  await waitFor(() => count() === 1);
  const [later, old] = [runs.get(0), runs.get(60_000)];
  expect(
    await ended(
      Promise.all([first, old]).then(([one, other]) => one + other),
      end,
    ),
  ).toBe(2);
  expect(await ended(later, end)).toBe(2);
});

it("results of runs that began before an invalidation are not used", async () => {
  const { runs, end } = counted();
  expect(await ended(runs.get(0), end)).toBe(1);
  runs.invalidate();
  expect(await ended(runs.get(60_000), end)).toBe(2);
});

it("a failure is shared only for a moment", async () => {
  let runs = 0;
  const failing = new SharedRuns(() => Promise.reject(new Error(String(++runs))));
  await expect(failing.get(0)).rejects.toThrow("1");
  await expect(failing.get(60_000)).rejects.toThrow("1");
  await expect(failing.get(0)).rejects.toThrow("2");
});
