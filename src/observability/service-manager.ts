// Notifies systemd of the plugin's state (sd_notify(3)). Node has no unix datagram sockets, so systemd-notify(1) sends
// the notification; the unit needs NotifyAccess=all.
import { spawn } from "node:child_process";

const SOCKET = "NOTIFY_SOCKET";

/**
 * Sends assignments such as "READY=1" to systemd, if it has started this process. Returns undefined when they have been
 * passed on, or why they could not be. Never throws.
 */
export function notifySystemd(
  env: NodeJS.ProcessEnv,
  ...assignments: readonly string[]
): Promise<string | undefined> {
  const socket = env[SOCKET];
  if (socket === undefined) return Promise.resolve(undefined);
  return new Promise((resolve) => {
    const child = spawn("systemd-notify", assignments, {
      env: { PATH: env["PATH"], [SOCKET]: socket },
      stdio: "ignore",
    });
    child.once("error", ({ message }) => {
      resolve(message);
    });
    child.once("exit", (code, signal) => {
      resolve(code === 0 ? undefined : `systemd-notify ended with ${String(code ?? signal)}`);
    });
  });
}

/**
 * Returns the notification that a reload begins. Type=notify-reload compares its time, by CLOCK_MONOTONIC, with the time
 * of the signal.
 */
export function reloadBegins(): string[] {
  return ["RELOADING=1", `MONOTONIC_USEC=${process.hrtime.bigint() / 1_000n}`];
}
