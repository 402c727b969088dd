// What one reading of an etcd refuses to take for complete. The etcd is a function here, since a real one does not answer
// wrongly.

import { expect, it } from "vitest";
import type { RangeRequest } from "../../src/etcd/client.js";
import { RangeScan } from "../../src/etcd/range-scan.js";
import { RangePage } from "../../src/etcd/range-response.js";
import { rangeResponse } from "../support/range-response.js";

const STORED = Array.from({ length: 2_000 }, (_, at) => Buffer.from(`/a/${String(at).padStart(5, "0")}`));
const VALUE = Buffer.alloc(20_000, "k8s\0");

type Answer = (request: RangeRequest, keys: readonly Buffer[], count: number) => Buffer;
const honest: Answer = (_request, keys, count) => rangeResponse(keys, count, VALUE);

/** Reads an etcd with an answer of its own for each request behind the first 100 keys; returns the number of keys. */
async function read(answer: Answer, parallel = 4): Promise<number> {
  let most = 0;
  let [pending, keys] = [0, 0];
  const range = async (request: RangeRequest): Promise<RangePage> => {
    most = Math.max(most, ++pending);
    await new Promise((resolve) => setImmediate(resolve));
    pending--;
    const { key, end = key, limit } = request;
    const found = STORED.filter((one) => one.compare(key) >= 0 && one.compare(end) < 0);
    const isFirst = request.revision === undefined;
    return new RangePage((isFirst ? honest : answer)(request, found.slice(0, limit), found.length));
  };
  const interval = { from: Buffer.from("/a/"), to: Buffer.from("/a0") };
  for await (const { length } of new RangeScan({ range }, interval, {}).pages(parallel)) keys += length;
  expect(most).toBe(parallel);
  return keys;
}

it("a reading makes as many requests at a time as it may, and reads every key once", async () => {
  expect(await read(honest)).toBe(STORED.length);
  expect(await read(honest, 1)).toBe(STORED.length);
});

it.each<[string, Answer]>([
  ["lacks a key that is counted", (_request, keys, count) => honest(_request, keys.slice(1), count)],
  [
    "lacks a key and does not count it",
    (_request, keys, count) => honest(_request, keys.slice(1), count - 1),
  ],
  ["has no key although more follow", (_request, _keys, count) => honest(_request, [], count + 1)],
  [
    "is for other keys",
    (_request, keys, count) => honest(_request, [...keys.slice(1), Buffer.from("/b")], count),
  ],
])("a reading fails if an answer %s", async (_what, answer) => {
  await expect(read(answer)).rejects.toMatchObject({ code: "PEER_UNREACHABLE" });
});

it("a reading fails if an endpoint belongs to another cluster", async () => {
  const other: Answer = (request, keys, count) => {
    const own = honest(request, keys, count);
    // A second header: cluster_id 5, revision 7.
    return Buffer.concat([own, Buffer.of(0x0a, 4, 0x08, 5, 0x18, 7)]);
  };
  await expect(read(other)).rejects.toMatchObject({
    code: "CONFIG_INVALID",
    message: expect.stringContaining("different clusters") as string,
  });
});
