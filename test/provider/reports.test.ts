// Reports must not change what they report: /readyz, /keys and a metrics scrape may be requested at any time and any
// number of times, also around the instant at which Status switches to the next KEK.

import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { afterEach, beforeEach, expect, it, vi } from "vitest";

import { observeProvider } from "../../src/compose/gauges.js";
import { Metrics } from "../../src/observability/metrics.js";
import { labelOf } from "../../src/provider/kek-label.js";
import { FilePublishedMemory } from "../../src/provider/published-memory.js";
import { RunningProvider } from "../../src/provider/running-provider.js";
import { FakeHsm, SILENT } from "../support/fake-hsm.js";
import { kekRecord } from "../support/kek-record.js";
import { providerOptions } from "../support/provider-options.js";
import { waitFor } from "../support/wait.js";

const START = Date.UTC(2026, 10, 21, 10);
const HOUR_MS = 3_600_000;
const REPEATS = 50;

let hsm: FakeHsm;
let stateDir: string;
let logged: string[];
let running: RunningProvider;
let metrics: Metrics;
let now: number;

const note = (_fields: object, text: string): void => void logged.push(text);
const log = { ...SILENT, info: note, warn: note, error: note };

/** Returns all state that a report could change. */
const traces = (): unknown => ({
  files: readdirSync(stateDir).map((name) => {
    const path = join(stateDir, name);
    return [name, readFileSync(path, "utf8"), statSync(path).mtimeMs];
  }),
  logged: [...logged],
  published: running.keyring().publishedKeyId,
  hsmCalls: [hsm.calls, hsm.readings],
});

async function reportOften(): Promise<void> {
  for (let time = 0; time < REPEATS; time++) {
    running.readiness();
    running.keyring();
    running.keys();
    await metrics.text();
  }
}

function start(): void {
  const memory = new FilePublishedMemory(stateDir);
  const times = { intervalMs: 24 * HOUR_MS, requestTimeoutMs: 1_000 };
  running = new RunningProvider(providerOptions(hsm, { ...times, memory, log }));
  metrics = new Metrics("test");
  observeProvider(metrics.ofCluster(), running, hsm, {});
  running.start();
}

/** Waits for a reading of the token that began at or after an instant, by the node's clock. */
async function read(since: number): Promise<void> {
  await waitFor(() => Date.parse(running.keyring(true).readAt ?? "") >= since, { timeoutMs: 20_000 });
  await waitFor(() => running.keys().every(({ mechanism, failure }) => mechanism ?? failure), {
    timeoutMs: 5_000,
  });
}

beforeEach(async () => {
  now = START;
  vi.spyOn(Date, "now").mockImplementation(() => now);
  stateDir = mkdtempSync(join(tmpdir(), "kms-reports-"));
  logged = [];
  hsm = new FakeHsm();
  hsm.records = [kekRecord("kms-kek", "first"), kekRecord(labelOf("kms-kek", START + HOUR_MS), "next")];
  start();
  await read(START);
});

afterEach(() => {
  running.stop();
  vi.restoreAllMocks();
  rmSync(stateDir, { recursive: true });
});

it("reports of a provider before the first Status publish nothing", async () => {
  const before = traces();
  await reportOften();
  expect(traces()).toEqual(before);
  expect(running.keyring()).toMatchObject({ publishedKeyId: null, dueKeyId: "first" });
});

it("reports leave the switch to Status, before, at and after the instant", async () => {
  expect(running.provider.status().keyId).toBe("first");
  for (const instant of [START + HOUR_MS - 1, START + HOUR_MS, START + HOUR_MS + 60_000]) {
    now = instant;
    const before = traces();
    await reportOften();
    expect(traces()).toEqual(before);
    expect(running.keyring().publishedKeyId).toBe("first");
  }
  await read(now);
  const before = traces();
  await reportOften();
  expect(traces()).toEqual(before);
  expect(running.keyring()).toMatchObject({ publishedKeyId: "first", dueKeyId: "next" });
  expect(running.provider.status().keyId).toBe("next");
});

it("reports of a KEK that is held back change nothing", async () => {
  running.provider.status();
  hsm.broken.add("next");
  now = START + HOUR_MS;
  await read(now);
  const before = traces();
  await reportOften();
  expect(traces()).toEqual(before);
  expect(running.keyring().heldBack).toMatch(/"?next"? is due but not activated/);
});

it("reports with a clock that was set back or forward log and record nothing", async () => {
  now = START + HOUR_MS;
  await read(now);
  expect(running.provider.status().keyId).toBe("next");
  for (const instant of [START - HOUR_MS, START + 100 * HOUR_MS]) {
    now = instant;
    const before = traces();
    await reportOften();
    expect(traces()).toEqual(before);
  }
  expect(running.provider.status().keyId).toBe("next");
  expect(logged).toContain("this node's clock was set forward");
});
