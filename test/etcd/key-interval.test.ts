// Reading an etcd of any distribution of keys: each key once, with few requests, and without making etcd count the same
// keys again and again. The etcd is an array here, so that requests and counted keys can be counted.

import fc from "fast-check";
import { expect, it } from "vitest";
import type { RangeRequest } from "../../src/etcd/client.js";
import { RangeScan } from "../../src/etcd/range-scan.js";
import { RangePage } from "../../src/etcd/range-response.js";
import { rangeResponse } from "../support/range-response.js";

const PREFIX = "/registry/";

interface Reading {
  readonly keys: readonly string[];
  readonly requests: number;
  /** The sum of the keys in all requested ranges, each of which etcd visits. */
  readonly counted: number;
}

async function readAll(
  stored: readonly string[],
  parallel: number,
  value = Buffer.from("k8s\0"),
): Promise<Reading> {
  let [requests, counted] = [0, 0];
  const sorted = stored.map((key) => Buffer.from(key)).sort((one, other) => one.compare(other));
  const range = ({ key, end = key, limit }: RangeRequest): Promise<RangePage> => {
    const found = sorted.slice(lowerBound(sorted, key), lowerBound(sorted, end));
    requests++;
    counted += found.length;
    return Promise.resolve(new RangePage(rangeResponse(found.slice(0, limit), found.length, value)));
  };
  const keys: string[] = [];
  const interval = { from: Buffer.from(PREFIX), to: Buffer.from("/registry0") };
  const reading = new RangeScan({ range }, interval, {});
  for await (const page of reading.pages(parallel)) {
    for (const { key } of page.entries()) keys.push(key.toString());
  }
  return { keys, requests, counted };
}

function lowerBound(sorted: readonly Buffer[], key: Buffer): number {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((sorted[middle]?.compare(key) ?? 1) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

const inOrder = (keys: readonly string[]): string[] =>
  keys
    .map((key) => Buffer.from(key))
    .sort((one, other) => one.compare(other))
    .map(String);

const COUNT = 30_000;
/** So that a page holds about five hundred keys. */
const VALUE = Buffer.alloc(4_000, "k8s\0");
const numbered = (name: (at: number) => string): string[] =>
  Array.from({ length: COUNT }, (_, at) => PREFIX + name(at));
const hex = (at: number): string =>
  Math.imul(at + 1, 0x9e3779b1)
    .toString(16)
    .replace("-", "f");

it.each<[string, (at: number) => string]>([
  ["namespaces and numbers", (at) => `configmaps/namespace-${at % 5_000}/object-${at}`],
  ["one namespace", (at) => `secrets/default/${hex(at)}-${at}`],
  [
    "a few keys of each of many resources, then many of one",
    (at) => (at < 900 ? `a${hex(at)}/x` : `pods/ns/${hex(at)}${at}`),
  ],
  [
    "long common parts",
    (at) => `secrets/${"long".repeat(40)}/${"name".repeat(20)}-${String(at).padStart(9, "0")}`,
  ],
])("etcd counts each key a few times at most: %s", async (_what, name) => {
  const stored = numbered(name);
  const { keys, requests, counted } = await readAll(stored, 4, VALUE);
  expect(keys.length).toBe(COUNT);
  expect(new Set(keys).size).toBe(COUNT);
  expect(requests).toBeLessThan(260);
  // One long range would have etcd count every key 30 times.
  expect(counted / COUNT).toBeLessThan(12);
});

it("every key is read once, and with one request at a time in order, whatever the keys are", async () => {
  const part = fc.oneof(
    fc.constantFrom("a", "b", "/", "\0", "\u{10ffff}", "zz"),
    fc.string({ maxLength: 12 }),
  );
  const key = fc.array(part, { maxLength: 6 }).map((parts) => PREFIX + parts.join(""));
  const keys = fc.uniqueArray(key, { maxLength: 800, size: "max" });
  await fc.assert(
    fc.asyncProperty(keys, async (stored) => {
      expect((await readAll(stored, 1)).keys).toEqual(inOrder(stored));
      expect(inOrder((await readAll(stored, 4)).keys)).toEqual(inOrder(stored));
    }),
    { numRuns: 30 },
  );
});
