// Tests which of several clocks is reported as wrong, and by how much.

import { describe, expect, it } from "vitest";

import { clockDifferences, slowestBehindMs } from "../../src/admin/clocks.js";

describe("the clocks of all nodes and of this machine", () => {
  const clocks = (...aheadS: number[]): string[] =>
    clockDifferences(
      aheadS.map((ahead, index) => ({ name: `n${index}`, aheadMs: ahead * 1_000, errorMs: 0 })),
    );

  it("clocks may differ by a few seconds plus the response time", () => {
    expect([clocks(), clocks(0), clocks(2, -2, 0)]).toEqual([[], [], []]);
    expect(clockDifferences([{ name: "slow", aheadMs: 8_000, errorMs: 6_000 }])).toEqual([]);
    expect(clockDifferences([{ name: "slow", aheadMs: 10_000, errorMs: 6_000 }])).toHaveLength(1);
  });

  it("the clock check names every clock that is wrong, including this machine's", () => {
    expect(clocks(0, -4, 0)).toEqual([
      "n1: its clock is 4.0 s behind this machine's; correct the clock that is wrong",
    ]);
    expect(clocks(1_800)).toEqual([
      expect.stringMatching(/^n0: its clock is 1800\.0 s ahead of this machine's/),
    ]);
    for (const nodes of [2, 3, 4, 5]) {
      expect(clocks(...Array.from({ length: nodes }, () => -1_800))).toEqual([
        expect.stringMatching(/^this machine: its clock is 1800\.0 s ahead of that of n\d/),
      ]);
    }
  });

  it("the clock check reports how far the slowest clock is behind this machine's", () => {
    const at = (...ahead: number[]): number =>
      slowestBehindMs(ahead.map((aheadMs) => ({ name: "n", aheadMs, errorMs: 0 })));
    expect([at(), at(5), at(-5, 3), at(-1, -9)]).toEqual([0, 0, 5, 9]);
  });
});
