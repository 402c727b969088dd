// Notifies systemd's watchdog (sd_notify(3), systemd.service(5) WatchdogSec=) twice per interval from the event loop,
// so that systemd restarts a plugin whose event loop hangs. Node has no unix datagram sockets, so systemd-notify(1)
// sends the notification; the unit needs NotifyAccess=all.
import { spawn } from "node:child_process";
import type { Log } from "../log.js";

const NAMES = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"] as const;

/** Returns the environment without systemd's notification socket, which is for the plugin alone. */
export function environmentWithoutWatchdog(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(env).filter(([name]) => !NAMES.some((ours) => ours === name)));
}

/** Notifies systemd until it is stopped. */
export interface Watchdog {
  stop(): void;
}

/** Starts the notifications. Returns undefined if systemd expects none from this process. */
export function startWatchdog(env: NodeJS.ProcessEnv, log: Log): Watchdog | undefined {
  const { NOTIFY_SOCKET: socket, WATCHDOG_USEC: usec, WATCHDOG_PID: pid } = env;
  const intervalMs = Number(usec) / 1_000 / 2;
  const isOurs = pid === undefined || Number(pid) === process.pid;
  if (socket === undefined || !isOurs || !Number.isFinite(intervalMs) || intervalMs <= 0) return undefined;
  let failed = false;
  let stopped = false;
  const fail = (reason: string): void => {
    if (!failed && !stopped) log.warn({ reason }, "systemd's watchdog cannot be notified");
    failed = true;
  };
  const timer = setInterval(() => {
    const child = spawn("systemd-notify", ["WATCHDOG=1"], {
      env: { PATH: env["PATH"], NOTIFY_SOCKET: socket },
      stdio: "ignore",
    });
    child.once("error", (error) => {
      fail(error.message);
    });
    child.once("exit", (code, signal) => {
      if (code === 0) failed = false;
      else fail(`systemd-notify ended with ${String(code ?? signal)}`);
    });
  }, intervalMs);
  return {
    stop: () => {
      clearInterval(timer);
      stopped = true;
    },
  };
}
