// When the warm token hosts may start. The clock is the test's.

import { afterEach, beforeEach, expect, it, vi } from "vitest";

import { StartOrder } from "../../../src/hsm/hosts/start-order.js";
import type { Starts } from "../../../src/hsm/hosts/starts.js";

const STARTS = { underWay: 0, isLate: false } as unknown as Starts;

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

it("warm hosts start soon after the first one is ready", () => {
  const order = new StartOrder(2, STARTS, () => undefined);
  order.noteReady();
  expect(order.mayStart(1, 1)).toBe(false);
  vi.advanceTimersByTime(250);
  expect(order.mayStart(1, 1)).toBe(true);
});

it("warm hosts wait while KEKs are tried on the first one, but not long", () => {
  const order = new StartOrder(2, STARTS, () => undefined);
  order.noteReady();
  const mayStartAt = Array.from({ length: 40 }, (_, at) => {
    vi.advanceTimersByTime(100);
    order.noteCall();
    return order.mayStart(1, 1) ? [100 * (at + 1)] : [];
  }).flat();
  expect(mayStartAt[0]).toBe(3_000);
});
