// A daemon in front of a token: started for a test, and ended with it.

import { spawn, type ChildProcess } from "node:child_process";

import { waitFor } from "./wait.js";

export interface DaemonOptions {
  readonly env?: Readonly<Record<string, string>>;
  /** Returns whether the daemon serves. */
  readonly isReady: () => boolean;
}

/** Starts a daemon in the foreground and waits until it serves; throws with what it printed if it ends before. */
export async function startDaemon(
  command: string,
  args: readonly string[],
  { env = {}, isReady }: DaemonOptions,
): Promise<ChildProcess> {
  const child = spawn(command, args, {
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let printed = "";
  const state = { hasEnded: false };
  const note = (chunk: Buffer): void => {
    printed = (printed + chunk.toString()).slice(-4_096);
  };
  child.stdout.on("data", note);
  child.stderr.on("data", note);
  child.once("error", ({ message }) => {
    state.hasEnded = true;
    printed += message;
  });
  child.once("exit", () => (state.hasEnded = true));
  // The daemon must not outlive a test process that ends early.
  process.once("exit", () => child.kill("SIGKILL"));
  await waitFor(() => state.hasEnded || isReady(), { what: `${command}: ${printed}` });
  if (state.hasEnded) throw new Error(`${command} ended: ${printed.trim()}`);
  return child;
}
