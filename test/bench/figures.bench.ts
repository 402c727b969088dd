// Measures every performance target of this project on one machine in one run, alone and in turn with the reference
// plugin. A missed target is reported but does not fail the run: a busy machine is not a defect.

import { statSync } from "node:fs";
import { join } from "node:path";

import { afterAll, beforeAll, expect, test } from "vitest";

import { compare, summarise, type Comparison, type Sample } from "../../src/bench/endpoints.js";
import { describeMachine } from "../../src/bench/machine.js";
import { quantile, spreadOf, type Spread } from "../../src/bench/statistics.js";
import { KmsClient } from "../../src/kms-client/kms-client.js";
import { FaultModule } from "../support/fault-module.js";
import { PluginProcess } from "../support/plugin-process.js";
import { coldStartChart, type ColdStart } from "./chart.js";
import { load, writeSeeds } from "./reference.js";
import { CHART, Results } from "./results.js";
import { Stage } from "./stage.js";

const QUICK = process.env["BENCH_QUICK"] === "1";
/** Whether to update the README and its chart too. */
const README_TOO = process.env["BENCH_README"] === "1";
const REPETITIONS = QUICK ? 2 : 15;
const TURN_MS = QUICK ? 50 : 300;
const OPERATIONS = ["Status", "Encrypt", "Decrypt"];
const WARM_MS = QUICK ? 300 : 1_500;
const SEEDS = QUICK ? 50 : 1_000;
const COLD_REPETITIONS = QUICK ? 1 : 3;
const DELAYS_MS = [0, 1, 2, 5];
const STARTS = QUICK ? 2 : 7;
const MEMORY_BLOCKS = 10;
const REQUESTS = QUICK ? 10_000 : Number(process.env["BENCH_REQUESTS"] ?? 1_000_000);
const HANG_MS = QUICK ? 1_000 : 5_000;

const stage = new Stage();
const results = new Results(describeMachine());

beforeAll(() => stage.open());

afterAll(async () => {
  await stage.close();
  if (README_TOO) results.intoReadme();
  console.log(`\n${results.write()}\nbench/results/ has all of it: bench.json, bench.txt, cold-start.svg`);
});

const shown = ({ median, low, high }: Spread, digits = 2): string =>
  `${median.toFixed(digits)} (${low.toFixed(digits)} to ${high.toFixed(digits)})`;

test("beside the reference plugin, in turn", async () => {
  // No plugin is measured before its code has been compiled.
  await load(stage.targets, { operations: OPERATIONS, concurrency: [16], turnMs: WARM_MS });
  const samples = await load(stage.targets, {
    operations: OPERATIONS,
    concurrency: [1, 16],
    repetitions: REPETITIONS,
    turnMs: TURN_MS,
  });
  expect(samples).toHaveLength(stage.targets.length * 3 * 2 * REPETITIONS);
  const ratios = compare(samples, "reference");
  results.detail("plugins", summarise(samples));
  results.detail("ratios", ratios);
  const find = (target: string, operation: string, concurrency: number): Comparison => {
    const found = ratios.find(
      (one) => one.target === target && one.operation === operation && one.concurrency === concurrency,
    );
    if (found === undefined) throw new RangeError(`nothing measured for ${target} ${operation}`);
    return found;
  };
  const quick = [
    ["local-kek", "Encrypt"],
    ["local-kek", "Decrypt"],
    ["direct", "Decrypt"],
  ] as const;
  for (const [target, operation] of quick) {
    const { p50Ratio } = find(target, operation, 1);
    const what = `${target} ${operation}${target === "direct" ? ", cached" : ""}`;
    ratioFinding(`${what}, 1 caller: p50`, "at most 1.0×", p50Ratio, p50Ratio.median <= 1);
    const { throughputRatio } = find(target, operation, 16);
    ratioFinding(
      `${what}, 16 callers: throughput`,
      "at least 0.75×",
      throughputRatio,
      throughputRatio.median >= 0.75,
    );
  }
  const slow = [
    ["direct", "Encrypt"],
    ["direct, no cache", "Decrypt"],
  ] as const;
  for (const [target, operation] of slow) {
    const { throughputRatio } = find(target, operation, 16);
    ratioFinding(
      `${target} ${operation}, 16 callers: throughput`,
      "at least 0.6×",
      throughputRatio,
      throughputRatio.median >= 0.6,
    );
  }
});

function ratioFinding(what: string, target: string, ratio: Spread, reached: boolean): void {
  results.findings.push({ what, target, measured: `${shown(ratio)}×`, reached });
}

test("cold start: distinct DEK seeds one after another, with a slow HSM", async () => {
  const modes = ["direct", "local-kek"] as const;
  const points: (ColdStart & { readonly repetition: number })[] = [];
  for (const mode of modes) await writeSeeds(stage.target(mode), SEEDS, seedsOf(mode));
  const fault = new FaultModule(stage.token);
  try {
    for (let repetition = 0; repetition < COLD_REPETITIONS; repetition++) {
      for (const delayMs of DELAYS_MS) {
        for (const mode of modes) {
          const [took] = await coldStart(fault, mode, delayMs);
          expect(took?.requests).toBe(SEEDS);
          points.push({ mode, delayMs, repetition, msPerSeed: ((took?.seconds ?? NaN) * 1000) / SEEDS });
        }
      }
    }
  } finally {
    fault.remove();
  }
  results.detail("coldStart", { seeds: SEEDS, points });
  const medianOf = (mode: string, delayMs: number): number =>
    quantile(
      points.filter((one) => one.mode === mode && one.delayMs === delayMs).map((one) => one.msPerSeed),
      0.5,
    );
  const ratio = medianOf("direct", 2) / medianOf("local-kek", 2);
  results.findings.push({
    what: `${SEEDS} distinct DEK seeds one after another, HSM with 2 ms a call: local-kek beside direct`,
    target: "at least 8× faster",
    measured: `${ratio.toFixed(1)}× (${medianOf("direct", 2).toFixed(2)} and ${medianOf("local-kek", 2).toFixed(2)} ms a seed)`,
    reached: ratio >= 8,
  });
  const chart = modes.flatMap((mode) =>
    DELAYS_MS.map((delayMs) => ({ mode, delayMs, msPerSeed: medianOf(mode, delayMs) })),
  );
  const svg = await coldStartChart(chart, `Cold start: ${SEEDS} DEK seeds, one after another`);
  expect(svg).toMatch(/^<svg .*<path /s);
  results.file(CHART, svg);
});

const seedsOf = (mode: string): string => join(stage.token.folder, `seeds-${mode}.json`);

/** Measures a plugin that has never seen the seeds, on a token whose decryptions are delayed. */
async function coldStart(fault: FaultModule, mode: string, delayMs: number): Promise<Sample[]> {
  fault.set(`C_Encrypt sleep ${delayMs}`, `C_Decrypt sleep ${delayMs}`);
  const plugin = new PluginProcess(fault, { mode, log: { level: "warn" } });
  try {
    await plugin.start();
    return await load([[mode, plugin.socket]], { requests: SEEDS, readSeeds: seedsOf(mode) });
  } finally {
    await plugin.stop();
    plugin.remove();
  }
}

test("start to the first ok Status", async () => {
  const seconds: number[] = [];
  for (let start = 0; start < STARTS; start++) {
    const plugin = new PluginProcess(stage.token, { log: { level: "warn" } });
    const startedAt = performance.now();
    plugin.launch();
    await firstOk(plugin.socket);
    seconds.push((performance.now() - startedAt) / 1000);
    await plugin.stop();
    plugin.remove();
  }
  const spread = spreadOf(seconds);
  results.detail("startSeconds", seconds);
  results.findings.push({
    what: "start to the first ok Status, SoftHSM",
    target: "below 0.7 s",
    measured: `${shown(spread)} s`,
    reached: spread.median < 0.7,
  });
});

async function firstOk(socket: string): Promise<void> {
  const soon = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 2));
  while (statSync(socket, { throwIfNoEntry: false }) === undefined) await soon();
  const client = new KmsClient(socket);
  const isOk = async (): Promise<boolean> => (await client.status().catch(() => undefined))?.healthz === "ok";
  while (!(await isOk())) await soon();
  client.close();
}

test("Status while every call into the HSM hangs", async () => {
  const fault = new FaultModule(stage.token);
  const plugin = new PluginProcess(fault, { cache: { entries: 0 }, log: { level: "error" } });
  try {
    await plugin.start();
    fault.set("* hang");
    const client = new KmsClient(plugin.socket);
    const hung = Array.from({ length: 8 }, () =>
      client.encrypt(Buffer.alloc(32), "hung").catch(() => undefined),
    );
    const [status] = await load([["hung", plugin.socket]], {
      operations: ["Status"],
      turnMs: HANG_MS,
      seeds: 0,
    });
    await Promise.all(hung);
    client.close();
    const p99Ms = status?.p99Ms ?? NaN;
    results.detail("statusWhileHung", status);
    results.findings.push({
      what: "Status while every HSM call hangs: p99",
      target: "below 5 ms",
      measured: `${p99Ms.toFixed(2)} ms`,
      reached: p99Ms < 5,
    });
  } finally {
    await plugin.stop("SIGKILL");
    plugin.remove();
    fault.remove();
  }
});

test("resident memory over many requests", async () => {
  const plugin = stage.plugin("direct");
  const mib: number[] = [];
  for (let block = 0; block < MEMORY_BLOCKS; block++) {
    // One half needs the token, the other is answered from memory.
    const requests = REQUESTS / MEMORY_BLOCKS / 2;
    await load([stage.target("direct")], { operations: ["Encrypt", "Decrypt"], concurrency: [16], requests });
    mib.push(plugin.residentBytes() / 2 ** 20);
  }
  results.detail("residentMib", { requests: REQUESTS, afterEachTenth: mib });
  const lastHalf = mib.slice(MEMORY_BLOCKS / 2);
  const growth = Math.max(...lastHalf) - Math.min(...lastHalf);
  const last = mib.at(-1) ?? NaN;
  results.findings.push({
    what: `resident memory after ${REQUESTS.toLocaleString("en")} requests, plugin and two token hosts`,
    target: "below 250 MB, flat over the last half",
    measured: `${last.toFixed(0)} MiB, within ${growth.toFixed(0)} MiB over the last half`,
    reached: last * 1.048_576 < 250 && growth < 0.05 * last,
  });
});
