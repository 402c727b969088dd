// Notifies systemd's watchdog (sd_notify(3), systemd.service(5) WatchdogSec=) twice per interval from the event loop,
// so that systemd restarts a plugin whose event loop hangs.
import type { Log } from "../log.js";
import { notifySystemd } from "./service-manager.js";

/**
 * systemd before 246 may lose the notification of a process that ends at once; so every notification says again that the
 * plugin is ready.
 */
const ALIVE = ["WATCHDOG=1", "READY=1"] as const;

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
  const timer = setInterval(() => {
    void notifySystemd(env, ...ALIVE).then((reason) => {
      if (reason !== undefined && !failed && !stopped) {
        log.warn({ reason }, "systemd's watchdog cannot be notified");
      }
      failed = reason !== undefined;
    });
  }, intervalMs);
  return {
    stop: () => {
      clearInterval(timer);
      stopped = true;
    },
  };
}
