// One turn of a closed loop: the number of requests, the minimum time, and a failed request.

import { describe, expect, it } from "vitest";

import { runTurn } from "../../src/bench/closed-loop.js";

const soon = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe("a turn of a closed loop", () => {
  it("a turn makes the given number of requests, at most one per caller at a time", async () => {
    const numbers: number[] = [];
    let underWay = 0;
    let most = 0;
    const turn = await runTurn(
      async (number) => {
        numbers.push(number);
        most = Math.max(most, ++underWay);
        await soon();
        underWay--;
      },
      4,
      { leastMs: 0, leastRequests: 50 },
    );
    expect(turn.requests).toBe(50);
    expect(numbers).toEqual(Array.from({ length: 50 }, (_, at) => at));
    expect(most).toBe(4);
    expect(turn.p50Ms).toBeLessThanOrEqual(turn.p99Ms);
  });

  it("a turn lasts for its minimum time", async () => {
    const turn = await runTurn(soon, 2, { leastMs: 5, leastRequests: 1 });
    expect(turn.seconds).toBeGreaterThanOrEqual(0.005);
    expect(turn.requests).toBeGreaterThan(1);
  });

  it("a turn throws the error of a failed request after every caller has stopped", async () => {
    let asked = 0;
    const failing = async (number: number): Promise<void> => {
      asked++;
      await soon();
      if (number === 3) throw new Error("refused");
    };
    await expect(runTurn(failing, 2, { leastMs: 60_000, leastRequests: 1 })).rejects.toThrow("refused");
    const then = asked;
    await soon();
    expect(asked).toBe(then);
  });
});
