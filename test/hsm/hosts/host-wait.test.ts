// How long callers wait for a token host: while a start makes progress, and not for what failed before they began.

import { afterEach, beforeEach, expect, it, vi } from "vitest";

import { KmsError } from "../../../src/errors.js";
import type { HostProcess } from "../../../src/hsm/hosts/host-process.js";
import { HostWait } from "../../../src/hsm/hosts/host-wait.js";
import { Starts, type Step } from "../../../src/hsm/hosts/starts.js";
import type { FailedStart } from "../../../src/hsm/hosts/supervisor.js";

const START_TIMEOUT_MS = 10_000;
const HOST = { kill: () => undefined } as unknown as HostProcess;

let ready: HostProcess[];
let failedStarts: FailedStart[];
let starts: Starts;
let wait: HostWait;

beforeEach(() => {
  vi.useFakeTimers();
  ready = [];
  failedStarts = [];
  starts = new Starts(START_TIMEOUT_MS, () => undefined);
  wait = new HostWait({
    ready: () => ready,
    failedStarts: () => failedStarts,
    starts,
    startTimeoutMs: START_TIMEOUT_MS,
  });
});
afterEach(() => {
  vi.useRealTimers();
});

/** Runs a start whose steps take these times, in ms, and then makes its host ready. */
function start(...steps: readonly (readonly [Step, number])[]): void {
  void starts.run(HOST, async (step) => {
    for (const [name, ms] of steps) await step(name, () => new Promise((resolve) => setTimeout(resolve, ms)));
    ready = [HOST];
    wait.noteChange();
  });
}

function fail(openedAt: number): void {
  failedStarts = [{ reason: new KmsError("TOKEN_NOT_FOUND", "away"), openedAt }];
  wait.noteChange();
}

/** Waits, and returns the result after this time: "waiting" if there is none yet. */
async function resultAfter(ms: number, loadedSince?: number): Promise<string> {
  let result = "waiting";
  void wait.whenReady(() => true, loadedSince).then((host) => (result = host === HOST ? "ready" : "none"));
  await vi.advanceTimersByTimeAsync(ms);
  return result;
}

it("the time that a process takes to start does not count", async () => {
  start(["spawn", 50_000], ["open", 100]);
  expect(await resultAfter(50_200)).toBe("ready");
});

it("a start with progress is awaited however long it takes in all", async () => {
  start(["spawn", 100], ["open", 8_000], ["read", 8_000], ["read", 8_000]);
  expect(await resultAfter(24_200)).toBe("ready");
});

it("a start without progress is not awaited any longer", async () => {
  start(["spawn", 100], ["open", 60_000]);
  expect(await resultAfter(10_200)).toBe("none");
});

it("a start that loaded the library too early neither fails the wait nor ends it", async () => {
  const since = performance.now();
  const result = resultAfter(1_000, since);
  fail(since - 1);
  expect(await result).toBe("waiting");
  fail(since + 1);
  expect(await resultAfter(0, since)).toBe("none");
});

it("a stop ends every wait", async () => {
  const result = resultAfter(0);
  wait.stop();
  expect(await result).toBe("none");
});
