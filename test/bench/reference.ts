// The Go programs of the comparison: the reference plugin as a process, and the load generator.

import { execFile, spawn, type ChildProcess } from "node:child_process";
import { statSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import type { Sample } from "../../src/bench/endpoints.js";
import type { TestToken } from "../support/token.js";
import { waitFor } from "../support/wait.js";

const BUILD = fileURLToPath(new URL("../../build/bench", import.meta.url));
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

/** Runs the load generator to its end; throws if a plugin fails a request. */
export async function load(targets: readonly Target[], options: LoadOptions): Promise<Sample[]> {
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
  const text = await runLoad(targets, flags);
  return text
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Sample);
}

/** Makes a plugin encrypt DEK seeds and writes the ciphertexts to a file, without decrypting any. */
export async function writeSeeds(target: Target, seeds: number, file: string): Promise<void> {
  await runLoad([target], { seeds, "write-seeds": file });
}

async function runLoad(
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

export class ReferencePlugin {
  readonly socket: string;
  readonly #child: ChildProcess;

  /** @param label the key's label, which may be that of our KEK */
  constructor(token: TestToken, label: string, socket: string) {
    this.socket = socket;
    const flags = { socket, module: token.modulePath, token: token.label, "pin-file": token.pinFile, label };
    const args = Object.entries(flags).map(([name, value]) => `--${name}=${value}`);
    const env = { ...process.env, ...token.env };
    this.#child = spawn(join(BUILD, "plugin"), args, { env, stdio: ["ignore", "ignore", "inherit"] });
  }

  async ready(): Promise<void> {
    await waitFor(() => statSync(this.socket, { throwIfNoEntry: false })?.isSocket() ?? false, {
      what: "the reference plugin's socket",
      timeoutMs: 20_000,
    });
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null) return;
    const ended = new Promise((resolve) => this.#child.once("exit", resolve));
    this.#child.kill("SIGTERM");
    await ended;
  }
}
