// The text of a share: its frozen form, what the checksum finds, and that no input crashes the reader.

import { readFileSync } from "node:fs";

import fc from "fast-check";
import { expect, it } from "vitest";

import { encodeShare, groupText, parseShare, type Share } from "../../src/custody/share.js";

interface Vectors {
  readonly shares: readonly (Omit<Share, "point"> & { readonly point: string; readonly text: string })[];
}

const { shares } = JSON.parse(
  readFileSync(new URL("../vectors/custody.json", import.meta.url), "utf8"),
) as Vectors;
const BODY_AT = "kmsshare1".length;
const ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";
const [first] = shares;
const TEXT = first?.text ?? "";

const problemOf = (text: string): string => {
  try {
    parseShare(Buffer.from(text));
    return "";
  } catch (error) {
    return (error as Error).message;
  }
};
const wrongAt = (...positions: number[]): string => {
  const text = Array.from(TEXT);
  for (const at of positions) {
    text[at] = ALPHABET[(ALPHABET.indexOf(text[at] ?? "") + 1) % 32] ?? "";
  }
  return text.join("");
};

it("a frozen share keeps its text and its fields", () => {
  for (const { text, point, ...name } of shares) {
    const share = { ...name, point: Buffer.from(point, "hex") };
    expect(encodeShare(share).toString()).toBe(text);
    expect(parseShare(Buffer.from(text))).toEqual(share);
  }
});

it("a share is read in groups, in upper case, and with hyphens", () => {
  const grouped = groupText(Buffer.from(TEXT)).join(" ");
  for (const text of [grouped, TEXT.toUpperCase(), grouped.replaceAll(" ", "-"), ` ${TEXT}\r\n`]) {
    expect(parseShare(Buffer.from(text)).index).toBe(first?.index);
  }
});

it("reading a share zeroes the input", () => {
  const input = Buffer.from(TEXT);
  parseShare(input);
  expect(input.every((byte) => byte === 0)).toBe(true);
});

it("one or two wrong characters are found and located", () => {
  expect(problemOf(wrongAt(BODY_AT))).toMatch(/probably in group 1 after/);
  expect(problemOf(wrongAt(BODY_AT + 9, BODY_AT + 40))).toMatch(/probably in groups 3 and 11 after/);
  expect(problemOf(wrongAt(TEXT.length - 1))).toMatch(/probably in group 19 after/);
});

it("up to four wrong characters are always found, without a part of the share in the message", () => {
  const place = fc.integer({ min: BODY_AT, max: TEXT.length - 1 });
  fc.assert(
    fc.property(fc.uniqueArray(place, { minLength: 1, maxLength: 4 }), (positions) => {
      const problem = problemOf(wrongAt(...positions));
      expect(problem).toMatch(/wrong/);
      for (const group of groupText(Buffer.from(TEXT)).slice(1)) expect(problem).not.toContain(group);
    }),
    { numRuns: 60 },
  );
});

it.each([
  ["a character that shares never have", TEXT.replace(/.$/, "b"), /group 19 .* never occurs/],
  ["a missing character", TEXT.slice(0, -1), /82 characters instead of 83/],
  ["too many characters", `${TEXT}q`, /more characters/],
  ["mixed case", `${TEXT.slice(0, 40)}${TEXT.slice(40).toUpperCase()}`, /mixes upper and lower case/],
  ["another prefix", TEXT.replace("kmsshare", "bcshares"), /does not begin with kmsshare1/],
  ["nothing", "", /does not begin/],
])("a share with %s is refused with its reason", (_what, text, reason) => {
  expect(problemOf(text)).toMatch(reason);
});

it("no input crashes the reader of shares", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
      const typed = Buffer.concat([Buffer.from(TEXT.slice(0, 30)), bytes]);
      for (const input of [Buffer.from(bytes), typed]) {
        expect(() => parseShare(input)).toThrow(/this share cannot be read/);
      }
    }),
    { numRuns: 100 },
  );
});
