// systemd's watchdog: what the plugin sends with systemd-notify(1), and what it hides from its children.

import { chmodSync, existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { afterAll, beforeEach, expect, it } from "vitest";

import { startWatchdog, type Watchdog } from "../../src/observability/watchdog.js";
import { makeFolder } from "../support/token.js";
import { waitFor } from "../support/wait.js";

const folder = makeFolder("watchdog");
const sent = join(folder, "sent");
const warnings: object[] = [];
const log = {
  debug: () => undefined,
  info: () => undefined,
  warn: (fields: object) => warnings.push(fields),
  error: () => undefined,
};
/** The variables that systemd sets for a service with WatchdogSec=. */
const env = {
  PATH: `${folder}:${process.env["PATH"] ?? ""}`,
  NOTIFY_SOCKET: "/run/systemd/notify",
  WATCHDOG_USEC: "20000",
  WATCHDOG_PID: String(process.pid),
  KMS_PIN: "1234",
};

const standIn = (script: string): void => {
  const file = join(folder, "systemd-notify");
  writeFileSync(file, `#!/bin/sh\n${script}\n`);
  chmodSync(file, 0o755);
};
const whileRunning = async (watchdog: Watchdog | undefined, work: () => Promise<unknown>): Promise<void> => {
  expect(watchdog).toBeDefined();
  try {
    await work();
  } finally {
    watchdog?.stop();
  }
};

beforeEach(() => {
  warnings.length = 0;
  rmSync(sent, { force: true });
});

afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

it("the watchdog sends WATCHDOG=1 repeatedly, with only the variables that it needs", async () => {
  standIn(`echo "$*" $(env | grep -v -e ^PWD= -e ^_= -e ^SHLVL= -e ^PATH= | sort) >>${sent}`);
  const lines = (): string[] => (existsSync(sent) ? readFileSync(sent, "utf8").trim().split("\n") : []);
  await whileRunning(startWatchdog(env, log), () => waitFor(() => lines().length >= 3));
  expect(new Set(lines())).toEqual(new Set(["WATCHDOG=1 READY=1 NOTIFY_SOCKET=/run/systemd/notify"]));
  expect(warnings).toEqual([]);
});

it("the watchdog warns once if the notification cannot be sent, and keeps trying", async () => {
  standIn(`echo tried >>${sent}; exit 1`);
  const tries = (): number => (existsSync(sent) ? readFileSync(sent, "utf8").split("\n").length - 1 : 0);
  await whileRunning(startWatchdog(env, log), () => waitFor(() => tries() >= 3 && warnings.length > 0));
  expect(warnings).toEqual([{ reason: "systemd-notify ended with 1" }]);
});

it("the watchdog warns once if systemd-notify is missing", async () => {
  await whileRunning(startWatchdog({ ...env, PATH: "/nonexistent" }, log), () =>
    waitFor(() => warnings.length > 0),
  );
  expect(warnings).toEqual([{ reason: expect.stringContaining("ENOENT") as string }]);
});

it.each([
  { ...env, NOTIFY_SOCKET: undefined },
  { ...env, WATCHDOG_USEC: undefined },
  { ...env, WATCHDOG_USEC: "0" },
  { ...env, WATCHDOG_USEC: "soon" },
  { ...env, WATCHDOG_PID: "1" },
])("the watchdog does nothing if systemd expects no notification from this process: case %#", (other) => {
  expect(startWatchdog(other, log)).toBeUndefined();
});
