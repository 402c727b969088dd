// The load generator: closed loops of callers against one or more plugins, by a program in Go, as kube-apiserver is one.

import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";

import type { Sample } from "../../src/bench/endpoints.js";
import { BUILD } from "./reference.js";

/** The JSON of a run stays far below this; ciphertexts are written to a file instead. */
const MAX_OUTPUT_BYTES = 16 * 2 ** 20;

/** A plugin to measure: its name and its socket. */
export type Target = readonly [name: string, socket: string];

export interface LoadOptions {
  readonly operations?: readonly string[];
  readonly concurrency?: readonly number[];
  readonly repetitions?: number;
  readonly turnMs?: number;
  readonly requests?: number;
  readonly seeds?: number;
  readonly readSeeds?: string;
}

export interface LoadGenerator {
  /** Measures the targets in turn and returns one sample per turn; throws if a plugin fails a request. */
  run(targets: readonly Target[], options: LoadOptions): Promise<Sample[]>;
  /** Makes a plugin encrypt DEK seeds and writes the ciphertexts to a file, without decrypting any. */
  writeSeeds(target: Target, seeds: number, file: string): Promise<void>;
}

/** The program that `scripts/bench` builds from `reference/load`. */
export const GO_LOAD: LoadGenerator = {
  async run(targets, options) {
    const { operations = ["Decrypt"], concurrency = [1], repetitions = 1, turnMs = 0 } = options;
    const flags = {
      operations: operations.join(","),
      concurrency: concurrency.join(","),
      repetitions,
      "turn-ms": turnMs,
      requests: options.requests ?? 0,
      seeds: options.seeds ?? 16,
      "read-seeds": options.readSeeds ?? "",
    };
    const text = await runProgram(targets, flags);
    return text
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as Sample);
  },

  async writeSeeds(target, seeds, file) {
    await runProgram([target], { seeds, "write-seeds": file });
  },
};

async function runProgram(
  targets: readonly Target[],
  flags: Readonly<Record<string, string | number>>,
): Promise<string> {
  const args = [
    ...targets.map(([name, socket]) => `--target=${name}=${socket}`),
    ...Object.entries(flags).map(([name, value]) => `--${name}=${String(value)}`),
  ];
  const { stdout } = await promisify(execFile)(join(BUILD, "load"), args, { maxBuffer: MAX_OUTPUT_BYTES });
  return stdout;
}
