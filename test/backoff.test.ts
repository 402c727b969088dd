// The pauses between repeated attempts.

import { expect, it } from "vitest";

import { backoffMs } from "../src/backoff.js";

const LIMITS = { firstMs: 200, capMs: 30_000 };

it("a pause is 0 at first, then doubles up to the cap, with jitter", () => {
  expect(backoffMs(0, LIMITS)).toBe(0);
  expect([1, 2, 3].map((failures) => backoffMs(failures, LIMITS, () => 1))).toEqual([200, 400, 800]);
  expect(backoffMs(1000, LIMITS, () => 1)).toBe(30_000);
  expect(backoffMs(1000, LIMITS, () => 0)).toBe(15_000);
});
