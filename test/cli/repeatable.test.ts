// Work on request: before it can begin, once at a time, and once more for requests during a run.
import { expect, it } from "vitest";
import { Repeatable } from "../../src/cli/repeatable.js";

const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

it("a request before the work is known runs it once it is", async () => {
  const work = new Repeatable();
  work.request();
  work.request();
  let runs = 0;
  work.begin(() => {
    runs++;
    return Promise.resolve();
  });
  await settled();
  expect(runs).toBe(1);
});

it("a repeatable run never overlaps itself; requests during it cause one more", async () => {
  const work = new Repeatable();
  const ends: (() => void)[] = [];
  work.begin(() => new Promise((resolve) => ends.push(resolve)));
  for (let requests = 0; requests < 3; requests++) work.request();
  await settled();
  expect(ends).toHaveLength(1);
  ends[0]?.();
  await settled();
  expect(ends).toHaveLength(2);
  ends[1]?.();
  await settled();
  expect(ends).toHaveLength(2);
});
