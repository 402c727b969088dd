// A PIN split among custodians: which shares open it, and how each wrong share is reported.

import { readFileSync } from "node:fs";

import { beforeAll, describe, expect, it } from "vitest";

import { Gathering, type ShareFault } from "../../src/custody/gathering.js";
import { openPin, parseSealedPin, type SealedPin } from "../../src/custody/sealed-pin.js";
import { parseShare, type Share } from "../../src/custody/share.js";
import { splitPin, type SplitPin } from "../../src/custody/split.js";

const PLAN = { token: "token=kms", role: 1, threshold: 2, shares: 3 };
const PIN = "correct horse";
const copyOf = (share: Share | undefined): Share => {
  if (share === undefined) throw new Error("no such share");
  return { ...share, point: Uint8Array.from(share.point) };
};

let made: SplitPin;
let renewed: SplitPin;
let foreign: SplitPin;

beforeAll(async () => {
  made = await splitPin(Buffer.from(PIN), PLAN);
  renewed = await splitPin(Buffer.from("next"), { ...PLAN, before: made.sealed });
  foreign = await splitPin(Buffer.from("other"), PLAN);
});

const open = async (sealed: SealedPin, shares: readonly (Share | undefined)[]): Promise<string> => {
  const gathering = new Gathering(sealed);
  for (const share of shares) gathering.add(copyOf(share));
  return (await gathering.open()).toString();
};

it("every pair of shares opens the PIN, and one share does not", async () => {
  const [a, b, c] = made.shares;
  for (const pair of [
    [a, b],
    [c, a],
    [b, c],
  ]) {
    expect(await open(made.sealed, pair)).toBe(PIN);
  }
  await expect(open(made.sealed, [a])).rejects.toThrow(/1 more of the 2 shares/);
});

it("more shares than necessary open the PIN too", async () => {
  expect(await open(made.sealed, made.shares)).toBe(PIN);
});

it("a wrong share is named with its fault and does not spoil the others", async () => {
  const gathering = new Gathering(made.sealed);
  const altered = copyOf(made.shares[1]);
  altered.point[5] = (altered.point[5] ?? 0) ^ 1;
  const renumbered = { ...copyOf(made.shares[1]), index: 3 };
  const faults: (ShareFault | undefined)[] = [
    made.shares[0],
    made.shares[0],
    altered,
    renumbered,
    foreign.shares[1],
    renewed.shares[1],
    made.shares[1],
  ].map((share) => gathering.add(copyOf(share)));
  expect(faults).toEqual([undefined, "duplicate", "altered", "altered", "foreign", "newer", undefined]);
  expect((await gathering.open()).toString()).toBe(PIN);
});

it("a share of an earlier epoch is outdated after a renewal", () => {
  expect(new Gathering(renewed.sealed).add(copyOf(made.shares[0]))).toBe("outdated");
});

it("opening and clearing zero the shares", async () => {
  const shares = made.shares.map(copyOf);
  const [a, b, c] = shares;
  const gathering = new Gathering(made.sealed);
  for (const share of [a, b]) if (share !== undefined) gathering.add(share);
  (await gathering.open()).fill(0);
  const cleared = new Gathering(made.sealed);
  if (c !== undefined) cleared.add(c);
  cleared.clear();
  for (const { point } of shares) expect(point.every((byte) => byte === 0)).toBe(true);
});

describe("the sealed PIN", () => {
  it("a sealed PIN does not open if anything in it was altered", async () => {
    const { sealed, shares } = made;
    for (const other of [
      { ...sealed, token: "token=other" },
      { ...sealed, role: 0 },
      { ...sealed, sealed: renewed.sealed.sealed },
    ]) {
      await expect(open(other, shares)).rejects.toThrow(/does not open although every share is right/);
    }
  });

  it("a sealed PIN has the same length for every PIN", async () => {
    const { sealed } = await splitPin(Buffer.alloc(255, 0x41), PLAN);
    expect(sealed.sealed).toHaveLength(made.sealed.sealed.length);
  });

  it("the frozen sealed PIN opens with its frozen shares", async () => {
    const vectors = JSON.parse(readFileSync(new URL("../vectors/custody.json", import.meta.url), "utf8")) as {
      sealed: SealedPin;
      pin: string;
      key: string;
      shares: { text: string }[];
    };
    const sealed = parseSealedPin(Buffer.from(JSON.stringify(vectors.sealed)), "vector");
    const shares = vectors.shares.map(({ text }) => parseShare(Buffer.from(text)));
    expect(await open(sealed, shares.slice(1))).toBe(vectors.pin);
    expect(openPin(sealed, Buffer.from(vectors.key, "hex"))?.toString()).toBe(vectors.pin);
  });

  it.each([
    ["is not JSON", "x", /not a sealed PIN/],
    ["is of a later version", JSON.stringify({ version: 2 }), /version 2/],
    ["has an unknown member", "extra", /damaged/],
    ["has fewer shares than its threshold", "threshold", /damaged/],
  ])("a sealed PIN is refused if it %s", (_what, text, reason) => {
    const altered: Record<string, string> = {
      extra: JSON.stringify({ ...made.sealed, more: 1 }),
      threshold: JSON.stringify({ ...made.sealed, threshold: 4 }),
    };
    expect(() => parseSealedPin(Buffer.from(altered[text] ?? text), "pin.sealed")).toThrow(reason);
  });
});

it.each([
  [1, 3, /--threshold/],
  [4, 3, /greater than --shares/],
  [2, 17, /at most 16/],
  [NaN, 3, /--threshold/],
])("a split into %s of %s is refused", async (threshold, shares, reason) => {
  await expect(splitPin(Buffer.from(PIN), { ...PLAN, threshold, shares })).rejects.toThrow(reason);
});
