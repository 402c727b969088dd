// How often unknown key_ids have a token read, over all clusters on it.

import { expect, it } from "vitest";

import { ReadingTurns } from "../../src/provider/reading-turns.js";

it("all who wait for a turn share it", async () => {
  const turns = new ReadingTurns();
  const first = turns.next();
  expect(turns.next()).toBe(first);
  await first;
  expect(turns.next()).not.toBe(first);
});

it("a few turns are free after a quiet time, then one each second", async () => {
  let clock = 0;
  const waits: number[] = [];
  const turns = new ReadingTurns(
    () => clock,
    (ms) => {
      waits.push(ms);
      clock += ms;
      return Promise.resolve();
    },
  );
  for (let turn = 0; turn < 7; turn++) await turns.next();
  clock += 2_500;
  for (let turn = 0; turn < 3; turn++) await turns.next();
  expect(waits).toEqual([0, 0, 0, 0, 0, 1_000, 1_000, 0, 0, 500]);
});
