// The resources that the plugin's processes use, also after a process has ended.

import { spawn } from "node:child_process";

import { expect, it } from "vitest";

import { ProcessUsage } from "../../src/observability/process-usage.js";
import { waitFor } from "../support/wait.js";

it("the usage of processes is summed, and keeps the time of one that has ended", async () => {
  const busy = spawn(process.execPath, ["-e", "for (;;);"]);
  const pids = [busy.pid ?? 0];
  const usage = new ProcessUsage(() => pids);
  await waitFor(() => usage.cpuSeconds > 0.05, { timeoutMs: 20_000 });
  expect(usage.residentBytes).toBeGreaterThan(10e6);
  expect(usage.proportionalBytes).toBeGreaterThan(1e6);
  expect(usage.proportionalBytes).toBeLessThan(usage.residentBytes);
  const before = usage.cpuSeconds;
  const ended = new Promise((resolve) => busy.once("exit", resolve));
  busy.kill("SIGKILL");
  await ended;
  expect(usage.cpuSeconds).toBe(before);
  expect(usage.residentBytes).toBe(0);
  expect(usage.proportionalBytes).toBe(0);
  pids[0] = process.pid;
  expect(usage.cpuSeconds).toBeGreaterThan(before);
});
