// How many background calls are made at a time.

import { expect, it } from "vitest";

import { callPaced } from "../../src/working-set/paced-calls.js";

/** Calls that the test ends one by one, and the largest number that were in progress together. */
class Calls {
  readonly made: number[] = [];
  most = 0;
  readonly #open: ((goOn: boolean) => void)[] = [];

  readonly work = (item: number): Promise<boolean> => {
    this.made.push(item);
    return new Promise((resolve) => {
      this.#open.push(resolve);
      this.most = Math.max(this.most, this.#open.length);
    });
  };

  get running(): number {
    return this.#open.length;
  }

  async end(goOn = true): Promise<void> {
    this.#open.shift()?.(goOn);
    await new Promise(setImmediate);
  }
}

const items = Array.from({ length: 50 }, (_, at) => at);

it("paced calls begin with one, grow by one after each quick answer, and keep to the limit", async () => {
  const calls = new Calls();
  const all = callPaced(items, calls.work, 4);
  const running = [calls.running];
  while (calls.running > 0) {
    await calls.end();
    running.push(calls.running);
  }
  await all;
  expect(running.slice(0, 5)).toEqual([1, 2, 3, 4, 4]);
  expect(calls.most).toBe(4);
  expect(calls.made).toEqual(items);
});

it("paced calls end when one says so, after those in progress", async () => {
  const calls = new Calls();
  let isOver = false;
  const all = callPaced(items, calls.work, 4).then(() => (isOver = true));
  await calls.end();
  await calls.end(false);
  const made = calls.made.length;
  expect(isOver).toBe(false);
  while (calls.running > 0) await calls.end();
  await all;
  expect(calls.made).toHaveLength(made);
});

it("the paced series makes one call at a time while the answers are slow", async () => {
  const real = performance.now.bind(performance);
  let clock = 0;
  performance.now = () => (clock += 300);
  try {
    const calls = new Calls();
    const all = callPaced(items, calls.work, 4);
    while (calls.running > 0) await calls.end();
    await all;
    expect(calls.most).toBe(1);
  } finally {
    performance.now = real;
  }
});

it("the paced series ends at once without items", async () => {
  await callPaced([], () => Promise.resolve(true), 4);
});
