// How long a token host remembers that an object is not a KEK.

import { beforeEach, expect, it } from "vitest";

import { ForeignObjects } from "../../src/token-host/foreign-objects.js";

const MINUTE_MS = 60_000;
const handle = (number: number): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeUInt32LE(number);
  return bytes;
};

let clock: number;
let foreign: ForeignObjects;

beforeEach(() => {
  clock = 0;
  foreign = new ForeignObjects(() => clock);
});

it("a foreign object is known for at least ten minutes and checked again within an hour", () => {
  const objects = Array.from({ length: 500 }, (_, number) => handle(number));
  for (const object of objects) foreign.add(object);
  clock = 10 * MINUTE_MS - 1;
  expect(objects.every((object) => foreign.has(object))).toBe(true);
  clock = 30 * MINUTE_MS;
  const due = objects.filter((object) => !foreign.has(object)).length;
  expect(due).toBeGreaterThan(0);
  expect(due).toBeLessThan(objects.length);
  clock = 60 * MINUTE_MS;
  expect(objects.some((object) => foreign.has(object))).toBe(false);
});

it("a handle that a search no longer returns is forgotten, since it may be reused", () => {
  for (const number of [1, 2]) foreign.add(handle(number));
  foreign.keepOnly([handle(2), handle(3)]);
  expect([1, 2, 3].map((number) => foreign.has(handle(number)))).toEqual([false, true, false]);
});

it("clearing forgets every handle", () => {
  foreign.add(handle(1));
  foreign.clear();
  expect(foreign.has(handle(1))).toBe(false);
});

it("a handle that turned out to denote a KEK is forgotten", () => {
  for (const number of [1, 2]) foreign.add(handle(number));
  foreign.delete(handle(1));
  expect([1, 2].map((number) => foreign.has(handle(number)))).toEqual([false, true]);
});
