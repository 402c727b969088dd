// The soak: load and random faults together for a given time, with every answer checked. Fails on a wrong answer, on a
// plugin that ends, and on a fault from which the plugin does not recover. Measurements are printed, not judged.

import { afterAll, beforeAll, expect, test } from "vitest";

import { FaultModule } from "../support/fault-module.js";
import { createKek, PluginProcess } from "../support/plugin-process.js";
import { createSoftHsm, type SoftHsm } from "../support/softhsm.js";
import { waitFor } from "../support/wait.js";
import { drawFault, seededRandom } from "./faults.js";
import { Load } from "./load.js";

const MINUTES = Number(process.env["SOAK_MINUTES"] ?? "1");
const SEED = Number(process.env["SOAK_SEED"] ?? String(Date.now() % 1_000_000));
const CALLERS = 32;
const CONNECTIONS = 4;
const FAULT_MS = { least: 200, most: 1_500 };
const CALM_MS = 500;
/** Consecutive answers that count as recovery: more than the callers that may have been waiting. */
const RECOVERED_ANSWERS = 2 * CALLERS;
/** Time limit for a recovery, in ms. A busy machine may need several starts, each after a backoff of up to 30 s. */
const RECOVERY_LIMIT_MS = 150_000;

/** No cache, so that every Decrypt reaches the token, and short times, so that a minute can contain many faults. */
const SETTINGS = {
  keys: { refreshInterval: "1s" },
  cache: { entries: 0 },
  hsm: { requestTimeout: "800ms", startTimeout: "3s" },
  log: { level: "warn" },
};

let softHsm: SoftHsm;
let fault: FaultModule;
let plugin: PluginProcess;
let load: Load;
/** Whether the last fault was overcome; otherwise the log is kept. */
let hasRecovered = true;

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

async function recovered(from = "the start"): Promise<void> {
  load.inARow = 0;
  hasRecovered = false;
  await waitFor(() => load.inARow >= RECOVERED_ANSWERS || !plugin.running, {
    what: `${RECOVERED_ANSWERS} answers in a row after ${from}, seed ${SEED}; see ${plugin.logFile}`,
    timeoutMs: RECOVERY_LIMIT_MS,
  });
  expect(plugin.running, `the plugin has ended; see ${plugin.logFile}`).toBe(true);
  hasRecovered = true;
}

beforeAll(() => {
  softHsm = createSoftHsm();
  fault = new FaultModule(softHsm);
  createKek(fault);
  plugin = new PluginProcess(fault, SETTINGS);
  plugin.launch();
  load = new Load(plugin.socket, CONNECTIONS);
});

afterAll(async () => {
  await plugin.stop();
  if (load.wrong.length === 0 && hasRecovered) plugin.remove();
  fault.remove();
  softHsm.remove();
});

test("load and faults together give no wrong answer", async () => {
  const random = seededRandom(SEED);
  const running = load.run(CALLERS);
  const recoveries = new Map<string, number[]>();
  await recovered();
  const atStart = plugin.residentBytes();
  const endsAt = performance.now() + MINUTES * 60_000;
  while (performance.now() < endsAt) {
    const { kind, lines } = drawFault(random);
    fault.set(...lines);
    await pause(FAULT_MS.least + random() * (FAULT_MS.most - FAULT_MS.least));
    const clearedAt = performance.now();
    fault.clear();
    await recovered(kind);
    recoveries.set(kind, [...(recoveries.get(kind) ?? []), performance.now() - clearedAt]);
    await pause(CALM_MS);
  }
  const atEnd = plugin.residentBytes();
  load.stop();
  await running;
  report(recoveries, atStart, atEnd);
  expect(load.wrong).toEqual([]);
  expect(load.answered).toBeGreaterThan(0);
});

function report(recoveries: ReadonlyMap<string, readonly number[]>, atStart: number, atEnd: number): void {
  const mebibytes = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(0)} MiB`;
  const rows = [...recoveries].sort().map(([kind, times]) => {
    const sorted = [...times].sort((a, b) => a - b);
    const at = (part: number): string => (sorted[Math.floor(part * (sorted.length - 1))] ?? 0).toFixed(0);
    return `  ${kind.padEnd(16)} ${String(times.length).padStart(4)} times, recovered after ${at(0.5)} ms (median), ${at(1)} ms (most)`;
  });
  console.log(
    [
      `soak of ${MINUTES} min, seed ${SEED}`,
      `  requests ${load.requests}, answered ${load.answered}, refused for trouble ${load.troubled}, wrong ${load.wrong.length}`,
      ...rows,
      `  resident memory of plugin and token hosts: ${mebibytes(atStart)} at the start, ${mebibytes(atEnd)} at the end`,
    ].join("\n"),
  );
}
