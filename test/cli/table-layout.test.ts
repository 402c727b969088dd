// Tables on narrow terminals: what is shortened, what is wrapped, and when each cell gets a line of its own.

import { describe, expect, it } from "vitest";

import { parseKeyReference } from "../../src/admin/key-reference.js";
import { formatFacts, formatTable } from "../../src/cli/table.js";

const HEAD = ["STATE", "ACTIVATION", "AGE", "KIND", "KEY_ID", "LABEL", "FINDINGS"];
const keyId = (hex: string): string => `01a21e43${hex.repeat(12)}.c${"0".repeat(32)}`;
const row = (state: string, id: string, findings = "none"): string[] => [
  state,
  "2026-11-27T18:27:41.000Z",
  "in 12m",
  "aes",
  id,
  "kms-kek@20261127T182741Z",
  findings,
];

const widest = (text: string): number => Math.max(...text.split("\n").map((line) => line.length));

describe("a table on a terminal", () => {
  it("a table is not changed if it fits, or if the output is not a terminal", () => {
    const rows = [row("active", keyId("ab"))];
    expect(formatTable(HEAD, rows, Infinity)).toBe(formatTable(HEAD, rows));
    expect(formatTable(HEAD, rows, 200)).toBe(formatTable(HEAD, rows));
    expect(formatTable(HEAD, rows)).toContain(keyId("ab"));
  });

  it("a table of 80 columns has wrapped columns, and prefixes of key_ids that commands accept", () => {
    const text = formatTable(HEAD, [row("active", keyId("cd")), row("retired", keyId("ce"))], 80);
    expect(widest(text)).toBeLessThanOrEqual(80);
    const prefixes = text.match(/01a21e43\S+/gu) ?? [];
    expect(prefixes).toEqual(["01a21e43cdc…", "01a21e43cec…"]);
    for (const prefix of prefixes) expect(parseKeyReference("KEY_ID", prefix).kind).toBe("part");
    expect(text).toMatch(/^active +2026-11-27 +in 12m +aes +01a21e43cdc… +kms-kek +none$/mu);
    expect(text).toMatch(/^ +T18:27:41\.000Z +@20261127T182741Z$/mu);
  });

  it("a table shortens key_ids that differ late to prefixes that differ", () => {
    const [one, two] = [`${keyId("ef").slice(0, 30)}01`, `${keyId("ef").slice(0, 30)}02`].map(
      (id) => `${id}.c${"0".repeat(32)}`,
    );
    const text = formatTable(["A", "B", "C"], [["a", one ?? "", two ?? ""]], 80);
    const [, first, second] = /^a +(\S+) +(\S+)$/mu.exec(text) ?? [];
    expect(first).not.toBe(second);
    expect(`${first ?? ""} ${second ?? ""}`).toMatch(/^01a21e43\S+… 01a21e43\S+…$/u);
  });

  it("a table shortens key_ids within a sentence, and keeps other words", () => {
    const detail = `a KMS plugin answers there with key_id ${keyId("1a")}; libsofthsm2.so can be loaded by it`;
    const text = formatTable(["", "", ""], [["ok", "socket", detail]], 80);
    expect(text).toContain("01a21e431a1…");
    expect(text).toContain("libsofthsm2.so");
  });

  it.each([1, 5, 12, 20, 40, 60, 79, 80, 100])(
    "a table on a terminal of %i columns is never wider",
    (columns) => {
      const rows = [
        row("active", keyId("2b"), "a very longwordthatcannotbebrokenanywhere, and more words"),
        [],
      ];
      const text = formatTable(HEAD, rows, columns);
      // Names of columns are not broken.
      expect(widest(text)).toBeLessThanOrEqual(Math.max(columns, "ACTIVATION".length + 3));
    },
  );

  it("a table on a very narrow terminal becomes one line for each cell", () => {
    const text = formatTable(
      ["STATE", "LABEL"],
      [
        ["active", "a-label-of-some-length"],
        ["due", "b"],
      ],
      20,
    );
    expect(text).toBe("STATE  active\nLABEL  a-label-of-so\n       me-length\n\nSTATE  due\nLABEL  b");
  });
});

it.each([30, 60, 78])("facts to sign show the whole key_id on %i columns", (columns) => {
  const keyId = "01a2212eee3d7068a6bf8d242ae2ef31.ca8b617ba283725363cd184926289f1a8";
  const facts = formatFacts([["KEK", keyId]], columns);
  expect(facts.replaceAll(/\s/gu, "")).toBe(`KEK${keyId}`);
  expect(Math.max(...facts.split("\n").map((line) => line.length))).toBeLessThanOrEqual(columns);
});
