// Parts close in the listed order, whatever the order in which they were opened.

import { expect, it } from "vitest";

import { Closers, CLOSING_ORDER } from "../../src/compose/closers.js";

it("parts close in the listed order, and learn whether the stop is graceful", async () => {
  const closed: unknown[] = [];
  const closers = new Closers();
  for (const part of [...CLOSING_ORDER].reverse()) {
    closers.add(part, (isGraceful) => {
      closed.push([part, isGraceful]);
    });
  }
  await closers.closeAll(true, () => undefined);
  expect(closed).toEqual(CLOSING_ORDER.map((part) => [part, true]));
});

it("each part has closed before the next one closes, also after a part that fails", async () => {
  const closed: string[] = [];
  const failed: unknown[] = [];
  const closers = new Closers();
  closers.add("log output", () => void closed.push("log output"));
  closers.add("server", async () => {
    await new Promise((resolve) => setTimeout(resolve, 5));
    closed.push("server");
  });
  closers.add("token hosts", () => Promise.reject(new Error("stuck")));
  await closers.closeAll(false, (part, error) => failed.push([part, String(error)]));
  expect([closed, failed]).toEqual([["server", "log output"], [["token hosts", "Error: stuck"]]]);
});

it("every part is closed once", async () => {
  let times = 0;
  const closers = new Closers();
  closers.add("server", () => {
    times++;
  });
  await closers.closeAll(false, () => undefined);
  await closers.closeAll(false, () => undefined);
  expect(times).toBe(1);
});
