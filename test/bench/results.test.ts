// How the findings of a benchmark replace the README's section.

import { readFileSync } from "node:fs";
import { expect, it } from "vitest";

import { describeMachine } from "../../src/bench/machine.js";
import { Results, withSection } from "./results.js";

it("the findings replace the text between the README's markers and nothing else", () => {
  const results = new Results(describeMachine());
  results.findings.push({ what: "start", target: "below 0.7 s", measured: "0.6 s", reached: true });
  results.findings.push({ what: "memory", target: "below 250 MB", measured: "260 MB", reached: false });
  const readme = readFileSync(new URL("../../README.md", import.meta.url), "utf8");
  const changed = withSection(readme, results.section);
  expect(changed).toContain(
    "| start | below 0.7 s | 0.6 s | reached |\n| memory | below 250 MB | 260 MB | falls short |",
  );
  expect(changed.split("<!-- bench -->")[0]).toBe(readme.split("<!-- bench -->")[0]);
  expect(changed.split("<!-- /bench -->")[1]).toBe(readme.split("<!-- /bench -->")[1]);
  expect(withSection(changed, results.section)).toBe(changed);
});

it("a README without markers is refused", () => {
  expect(() => withSection("# Nothing", "")).toThrow("the README has no");
});
