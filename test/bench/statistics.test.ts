// Quantiles, quartiles and ratios of repeated measurements.

import fc from "fast-check";
import { describe, expect, it } from "vitest";

import { quantile, ratioOf, spreadOf } from "../../src/bench/statistics.js";

const values = fc.array(fc.double({ min: 0.001, max: 1e6, noNaN: true }), { minLength: 1, maxLength: 50 });

describe("statistics of repeated measurements", () => {
  it("quantiles are interpolated between two values, whatever their order", () => {
    expect([0, 0.25, 0.5, 0.75, 1].map((part) => quantile([40, 10, 30, 20], part))).toEqual([
      10, 17.5, 25, 32.5, 40,
    ]);
    expect(quantile([7], 0.99)).toBe(7);
  });

  it("quartiles lie within the values and are ordered", () => {
    fc.assert(
      fc.property(values, (all) => {
        const { low, median, high } = spreadOf(all);
        expect(low).toBeLessThanOrEqual(median);
        expect(median).toBeLessThanOrEqual(high);
        expect(low).toBeGreaterThanOrEqual(Math.min(...all));
        expect(high).toBeLessThanOrEqual(Math.max(...all));
      }),
    );
  });

  it("median and quartiles are not affected by one disturbed repetition", () => {
    expect(spreadOf([1, 1, 1, 1, 900]).median).toBe(1);
  });

  it("ratios compare pair by pair, so that a disturbance of both cancels out", () => {
    expect(ratioOf([2, 20, 200], [1, 10, 100])).toEqual({ median: 2, low: 2, high: 2 });
  });

  it("statistics throw without values and for lists of different lengths", () => {
    expect(() => quantile([], 0.5)).toThrow(RangeError);
    expect(() => ratioOf([1, 2], [1])).toThrow(RangeError);
  });
});
