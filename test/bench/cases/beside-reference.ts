// One request after another, and 16 at a time, in each mode and beside the reference plugin.

import { compare, summarise, type Comparison } from "../../../src/bench/endpoints.js";
import type { BenchRun } from "../bench-run.js";
import { shown } from "../results.js";

const OPERATIONS = ["Status", "Encrypt", "Decrypt"];

/** What users notice of speed: [name of our plugin, operation, what is measured]. */
const IN_MEMORY = [
  ["local-kek", "Encrypt", "`local-kek` Encrypt"],
  ["local-kek", "Decrypt", "`local-kek` Decrypt"],
  ["direct", "Decrypt", "`direct` Decrypt, cached"],
] as const;

/** Measures every plugin in turn. */
export async function besideReference({ stage, load, sizes, results }: BenchRun): Promise<void> {
  const targets = await stage.targets();
  // No plugin is measured before its code has been compiled.
  await load.run(targets, { operations: OPERATIONS, concurrency: [16], turnMs: sizes.warmMs });
  const samples = await load.run(targets, {
    operations: OPERATIONS,
    concurrency: [1, 16],
    repetitions: sizes.repetitions,
    turnMs: sizes.turnMs,
  });
  const ratios = compare(samples, "reference");
  const figures = summarise(samples);
  results.detail("plugins", figures);
  results.detail("ratios", ratios);
  const find = (target: string, operation: string, concurrency: number): Comparison => {
    const found = ratios.find(
      (one) => one.target === target && one.operation === operation && one.concurrency === concurrency,
    );
    if (found === undefined) throw new RangeError(`nothing measured for ${target} ${operation}`);
    return found;
  };
  for (const [target, operation, what] of IN_MEMORY) {
    const { p50Ratio } = find(target, operation, 1);
    results.ratio(`${what}, 1 caller: p50`, { atMost: 0.9 }, p50Ratio);
    const { throughputRatio } = find(target, operation, 16);
    results.ratio(`${what}, 16 callers: throughput`, { atLeast: 1 }, throughputRatio);
  }
  const { p50Ratio } = find("direct", "Encrypt", 1);
  results.ratio("`direct` Encrypt, verified, 1 caller: p50", { atMost: 2 }, p50Ratio);
  results.table(
    "Every plugin in turn",
    ["plugin", "request", "callers", "p50, ms", "p99, ms", "requests per s"],
    figures.map((one) => [
      one.target,
      one.operation,
      String(one.concurrency),
      shown(one.p50Ms, 3),
      shown(one.p99Ms, 2),
      shown(one.perSecond, 0),
    ]),
  );
}
