// The YAML file's own rules: one bounded UTF-8 document without aliases, duplicate keys or tags.
import { describe, expect, it } from "vitest";
import { parseConfiguration } from "../../src/config/file.js";
import { messageOf } from "./message-of.js";

const parse = (text: string): unknown => parseConfiguration(Buffer.from(text), "c.yaml");

describe("parseConfiguration", () => {
  it.each([
    ["a: 1\nb:\n  a: 2\na: 3\n", "c.yaml:4:1: this key appears twice; keep one"],
    ["a: &x [1]\nb: *x\n", "c.yaml:2:4: aliases (*) are refused; write the value out"],
    ["a: 1\n---\nb: 2\n", "c.yaml:2:1: a second document begins here; keep one"],
    ["a: 1\n\tb: 2\n", "c.yaml:2:1: a tab indents this line; use spaces"],
    ["a: b: c\n", 'c.yaml:1:4: a second ": " on one line; put the value in quotes'],
    ["a: 'b\n", "c.yaml:2:1: a closing quote, bracket, colon or comma is missing; add it"],
    ["a: [b\nc: d\n", "c.yaml:2:1: a bracket before this is not closed; close it"],
    ["a: {b: c\n", "c.yaml:2:1: a bracket before this is not closed; close it"],
    ["a: !secret b\n", "c.yaml:1:4: a tag (!) is not known; remove it, or put the value in quotes"],
    ["? [a]\n: b\n", "c.yaml:1:3: a key is not a plain name; write it as name: value"],
    ["# nothing\n", "c.yaml: is empty; begin it with apiVersion and kind"],
    ["", "c.yaml: is empty; begin it with apiVersion and kind"],
  ])("parseConfiguration refuses %j with line and column", (text, message) => {
    expect(messageOf(() => parse(text)).split("\n")).toContain(message);
  });

  it("parseConfiguration refuses bytes that are not UTF-8", () => {
    expect(messageOf(() => parseConfiguration(Buffer.of(0xff, 0xfe, 0x61, 0), "c.yaml"))).toBe(
      "c.yaml: is not UTF-8 text; save it as UTF-8",
    );
  });

  it("parseConfiguration refuses deep nesting, alias bombs and many duplicates cheaply", () => {
    const bomb = Array.from(
      { length: 20 },
      (_, level) => `l${level}: &l${level} [${`*l${level - 1},`.repeat(9)}]`,
    );
    const doubles = "a:\n".repeat(20_000);
    for (const text of [bomb.slice(1).join("\n"), "[".repeat(20_000), "- ".repeat(20_000), doubles]) {
      // Without its own limit on nesting, the parser would abort this process.
      const lines = messageOf(() => parse(text)).split("\n");
      expect(lines.length).toBeLessThanOrEqual(21);
    }
  });
});
