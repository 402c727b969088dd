// The output of `bench`: figures with their quartiles, and the machine that measured them.
import { z } from "zod";
import { count, type Printed } from "./printed.js";

const spread = z
  .object({ median: z.number(), low: z.number(), high: z.number() })
  .describe("the median and the quartiles of the repetitions");
const timing = { requests: count, p50Ms: spread, p99Ms: spread, perSecond: spread };

export const benchOutput = z.object({
  version: z.string(),
  machine: z.object({
    time: z.string(),
    cpu: z.string(),
    cores: z.int(),
    memoryMib: z.number(),
    system: z.string(),
    loadAverage: z.number(),
    node: z.string(),
    openssl: z.string(),
  }),
  settings: z.object({
    concurrency: z.array(z.int()),
    sessions: z.array(z.int()),
    repetitions: z.int(),
    turnMs: z.number(),
    bytes: z.array(z.int()),
    seeds: z.int(),
  }),
  core: z.array(
    z.object({
      implementation: z.string(),
      operation: z.enum(["seal", "open"]),
      bytes: z.int(),
      nsPerOperation: spread,
      mbPerSecond: z.number(),
    }),
  ),
  token: z.array(
    z.object({
      mechanism: z.string(),
      operation: z.enum(["encrypt", "decrypt"]),
      concurrency: z.int(),
      sessions: z.int(),
      ...timing,
    }),
  ),
  plugin: z.array(z.object({ target: z.string(), operation: z.string(), concurrency: z.int(), ...timing })),
  versus: z.array(
    z.object({
      operation: z.string(),
      concurrency: z.int(),
      target: z.string(),
      versus: z.string(),
      p50Ratio: spread,
      throughputRatio: spread,
    }),
  ),
});
export type BenchOutput = Printed<typeof benchOutput>;
