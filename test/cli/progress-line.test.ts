import { describe, expect, it } from "vitest";

import { Pace, progressLine } from "../../src/cli/progress-line.js";

const HALF = "█".repeat(15) + "░".repeat(15);

describe("the line of a progress display", () => {
  it.each([
    [
      "everything that is known",
      { done: 500_000, total: 1_000_000 },
      125_000,
      `${HALF} 50 % | 500,000 of 1,000,000 objects | 125,000 a second | 4 s left`,
    ],
    [
      "an estimate as one",
      { done: 5, total: 10, isEstimate: true },
      1,
      `${HALF} 50 % | 5 of about 10 objects | 1.0 a second | about 5 s left`,
    ],
    [
      "no share and no remaining time without a total",
      { done: 1_234, total: 0 },
      99.6,
      "1,234 objects | 100 a second",
    ],
    [
      "no share of an estimate that has been exceeded",
      { done: 11, total: 10, isEstimate: true },
      2,
      "11 objects | 2.0 a second",
    ],
    ["no rate before it is known", { done: 5, total: 10 }, undefined, `${HALF} 50 % | 5 of 10 objects`],
    [
      "no remaining time during a stall",
      { done: 5, total: 10 },
      0,
      `${HALF} 50 % | 5 of 10 objects | 0.0 a second`,
    ],
    [
      "no remaining time at the end",
      { done: 10, total: 10 },
      5,
      `${"█".repeat(30)} 100 % | 10 of 10 objects | 5.0 a second`,
    ],
    ["nothing but the number at the beginning", { done: 0, total: 0 }, undefined, "0 objects"],
    [
      "less than 100 % until all is done",
      { done: 9_999, total: 10_000 },
      undefined,
      `${"█".repeat(29)}░ 99 % | 9,999 of 10,000 objects`,
    ],
    [
      "minutes",
      { done: 5, total: 10 },
      5 / 125,
      `${HALF} 50 % | 5 of 10 objects | 0.0 a second | 3 min left`,
    ],
    [
      "hours",
      { done: 5, total: 10 },
      5 / 7_321,
      `${HALF} 50 % | 5 of 10 objects | 0.0 a second | 2 h 3 min left`,
    ],
  ])("the line of a progress display shows %s", (_what, step, rate, line) => {
    expect(progressLine({ unit: "objects", ...step }, rate)).toBe(line);
  });
});

describe("the rate", () => {
  it("the rate of a progress display is unknown in the first half second", () => {
    expect(new Pace(1_000).rate(5, 1_499)).toBeUndefined();
  });

  it("the rate of a progress display is that of the last ten seconds, or a little more", () => {
    const pace = new Pace(0);
    for (let now = 0; now <= 60_000; now += 100) pace.rate(now / 10, now);
    expect(pace.rate(6_000, 60_000)).toBe(100);
    for (let now = 60_100; now <= 70_000; now += 100) pace.rate(6_000, now);
    expect(pace.rate(6_000, 71_000)).toBe(0);
  });
});
