// Text from others in logs, tables and JSON: escaped, masked, and truncated.

import { expect, it } from "vitest";
import {
  clientText,
  collapseSpaces,
  escapeControls,
  maskControls,
  oneLine,
  truncate,
} from "../src/untrusted-text.js";

const HOSTILE = "a\u001b[2Jb\u202ec\u0000d\u2028e\r\nf";

it("every control character is escaped, so that text is one line without commands", () => {
  expect(oneLine(HOSTILE)).toBe("a\\u001b[2Jb\\u202ec\\u0000d\\u2028e\\u000d\\u000af");
});

it.each(["\u3164", "\u115f", "\uffa0", "\u2800", "\u034f", "\u{e0100}"])(
  "the invisible character %j, which could place text elsewhere on a terminal, is escaped",
  (invisible) => {
    expect(oneLine(`a${invisible}b`)).toMatch(/^a(\\u[0-9a-f]{4})+b$/);
    expect(oneLine("Müller 鍵 é\u0301")).toBe("Müller 鍵 é\u0301");
  },
);

it("control characters are escaped so that JSON means the same and keeps its line feeds", () => {
  const document = JSON.stringify({ label: "x\u007f\u202e" }, undefined, 2);
  const shown = escapeControls(document);
  expect(JSON.parse(shown)).toEqual(JSON.parse(document));
  expect(shown.split("\n")).toHaveLength(3);
  expect(shown).not.toContain("\u202e");
});

it("both halves of a character outside the basic plane are escaped", () => {
  expect(JSON.parse(`"${oneLine("\u{e0001}")}"`)).toBe("\u{e0001}");
});

it("maskControls masks control characters without changing the length", () => {
  expect(maskControls("a\nb\u0007")).toBe("a?b?");
});

it("collapseSpaces collapses white space", () => {
  expect(collapseSpaces(" a \r\n\t b ")).toBe("a b");
});

it.each([
  ["abcdef", 6, "abcdef"],
  ["abcdefg", 6, "abc..."],
])("truncate cuts %j to %d characters as %j", (text, max, shown) => {
  expect(truncate(text, max)).toBe(shown);
});

it("at most 128 characters of a client's text are shown", () => {
  expect(clientText("x".repeat(1_000))).toHaveLength(128);
});
