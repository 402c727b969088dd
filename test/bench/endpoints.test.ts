// Measuring plugins: which requests each case sends, and how samples are summarised and compared.

import { describe, expect, it } from "vitest";

import {
  compare,
  endpointSteps,
  measureEndpoints,
  OPERATIONS,
  summarise,
  type Endpoint,
} from "../../src/bench/endpoints.js";

interface Asked {
  readonly name: string;
  readonly calls: string[];
}

/** A plugin that counts its calls; the measured times do not matter here. */
function counting(name: string): Endpoint<{ ciphertext: Buffer }> & Asked {
  const calls: string[] = [];
  let sealed = 0;
  return {
    name,
    calls,
    client: {
      status: () => Promise.resolve(calls.push("Status")),
      encrypt: () => Promise.resolve({ ciphertext: Buffer.from(String(sealed++)) }),
      decrypt: ({ ciphertext }) => {
        calls.push(`Decrypt ${String(ciphertext)}`);
        return Promise.resolve(Buffer.alloc(32));
      },
    },
  };
}

const options = { concurrency: [1, 2], repetitions: 3, turnMs: 1, seeds: 20 };

describe("measuring plugins", () => {
  it("the measurement measures every plugin in every case and repetition, and reports each step", async () => {
    const endpoints = [counting("ours"), counting("theirs")];
    let steps = 0;
    const all = { ...options, operations: OPERATIONS, onStep: () => steps++ };
    const samples = await measureEndpoints(endpoints, all);
    expect(steps).toBe(endpointSteps(all, 2));
    expect(samples).toHaveLength(4 * 2 * 3 * 2);
    const turns = samples.map(({ target, operation, concurrency, repetition }) =>
      [target, operation, concurrency, repetition].join(),
    );
    expect(new Set(turns).size).toBe(turns.length);
    expect(samples.slice(0, 2).map(({ target }) => target)).toEqual(["ours", "theirs"]);
    const second = samples.filter(({ repetition }) => repetition === 1);
    expect(second.slice(0, 2).map(({ target }) => target)).toEqual(["theirs", "ours"]);
  });

  it("'Decrypt first' sends each ciphertext once, 'Decrypt again' repeats a few", async () => {
    const [first, again] = [counting("first"), counting("again")];
    const of = (operation: "Decrypt first" | "Decrypt again") => ({
      ...options,
      concurrency: [4],
      operations: [operation] as const,
      onStep: () => undefined,
    });
    const warm = 200;
    const samples = await measureEndpoints([first], of("Decrypt first"));
    expect(samples.map(({ requests }) => requests)).toEqual([20, 20, 20]);
    expect(new Set(first.calls.slice(warm)).size).toBe(60);
    await measureEndpoints([again], of("Decrypt again"));
    expect(new Set(again.calls).size).toBe(16);
  });

  it("the measurement fails if a plugin returns a plaintext of another length", async () => {
    const bad = counting("bad");
    bad.client.decrypt = () => Promise.resolve(Buffer.alloc(31));
    const one = { ...options, operations: ["Decrypt again"] as const, onStep: () => undefined };
    await expect(measureEndpoints([bad], one)).rejects.toThrow("another length");
  });

  it("the measurement summarises samples by case and compares them pair by pair", () => {
    const sample = (target: string, repetition: number, p50Ms: number) => ({
      target,
      operation: "Status",
      concurrency: 1,
      repetition,
      requests: 100,
      seconds: p50Ms / 10,
      p50Ms,
      p99Ms: 2 * p50Ms,
    });
    const samples = [1, 2, 3].flatMap((n) => [sample("ours", n, n), sample("theirs", n, 2 * n)]);
    expect(summarise(samples)).toMatchObject([
      {
        target: "ours",
        requests: 300,
        p50Ms: { median: 2, low: 1.5, high: 2.5 },
        perSecond: { median: 500 },
      },
      { target: "theirs", p50Ms: { median: 4 } },
    ]);
    const [ratio, ...others] = compare(samples, "theirs");
    expect(others).toEqual([]);
    expect(ratio).toMatchObject({
      target: "ours",
      p50Ratio: { median: 0.5, low: 0.5, high: 0.5 },
      throughputRatio: { median: 2 },
    });
  });
});
