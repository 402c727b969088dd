// How the results of a benchmark replace the sections of the README and of the page of figures.

import { readFileSync } from "node:fs";
import { expect, it } from "vitest";

import { describeMachine } from "../../src/bench/machine.js";
import { Results, withSection } from "./results.js";

const spread = (median: number) => ({ median, low: median, high: median });

it.each([
  ["README.md", "bench"],
  ["deploy/performance.md", "bench"],
  ["deploy/performance.md", "scale"],
] as const)("%s gets a section between its markers %s", (path, name) => {
  const results = new Results(describeMachine(), { name });
  results.answer("**A start.** It takes 0.2 s.");
  results.below("start", 0.3, spread(0.2), "s");
  const page = readFileSync(new URL(`../../${path}`, import.meta.url), "utf8");
  const section = path === "README.md" ? results.readmeSection : results.pageSection;
  const changed = withSection(page, name, section);
  expect(changed).toContain(section);
  expect(changed.split(`<!-- ${name} -->`)[0]).toBe(page.split(`<!-- ${name} -->`)[0]);
  expect(changed.split(`<!-- /${name} -->`)[1]).toBe(page.split(`<!-- /${name} -->`)[1]);
  expect(withSection(changed, name, section)).toBe(changed);
});

it("the page shows for each figure whether it reaches its target", () => {
  const results = new Results(describeMachine(), { name: "bench" });
  results.below("start", 0.3, spread(0.2), "s");
  results.ratio("seeds", { atMost: 0.1 }, spread(0.5));
  results.ratio("throughput", { atLeast: 1 }, spread(1.5));
  results.ratio("first start", {}, spread(0.6));
  results.table("Memory", ["mode", "MiB"], [["direct", "140"]]);
  expect(results.pageSection.split("\n").slice(4).join("\n")).toBe(`\
| start | below 0.3 s | 0.20 (0.20 to 0.20) s | reached |
| seeds | at most 0.1× | 0.50 (0.50 to 0.50)× | falls short |
| throughput | at least 1× | 1.50 (1.50 to 1.50)× | reached |
| first start |  | 0.60 (0.60 to 0.60)× |  |

### Memory

| mode | MiB |
| --- | --- |
| direct | 140 |`);
});

it("a page without markers is refused", () => {
  expect(() => withSection("# Nothing", "bench", "")).toThrow("the page has no");
});
