// The chart of the cold start: its lines and axes.

import { expect, it } from "vitest";

import { coldStartChart } from "./chart.js";

it("the chart has one line per mode and names its axes", async () => {
  const points = ["direct", "local-kek"].flatMap((mode, at) =>
    [0, 1, 2].map((delayMs) => ({ mode, delayMs, msPerSeed: 1 + at + delayMs })),
  );
  const svg = await coldStartChart(points, "Cold start");
  expect(svg).toMatch(/^<svg [^]*<\/svg>$/);
  expect(
    svg.match(/role="graphics-symbol" aria-roledescription="line mark"/g) ?? svg.match(/mark-line/g),
  ).toHaveLength(2);
  for (const text of ["Cold start", "direct", "local-kek", "delay of each call into the HSM, ms"]) {
    expect(svg).toContain(text);
  }
});
