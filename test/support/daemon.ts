// A daemon in front of a token: started for a test, and ended with it.

import { spawn, type ChildProcess } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";

import { waitFor } from "./wait.js";

export interface DaemonOptions {
  readonly env?: Readonly<Record<string, string>>;
  /** Receives the daemon's output: a test that waits for a command reads no pipe. */
  readonly logFile: string;
  /** Returns whether the daemon serves. */
  readonly isReady: () => boolean | Promise<boolean>;
}

/** Starts a daemon in the foreground and waits until it serves. Throws with its output if it ends before. */
export async function startDaemon(
  command: string,
  args: readonly string[],
  { env = {}, logFile, isReady }: DaemonOptions,
): Promise<ChildProcess> {
  const log = openSync(logFile, "a");
  const child = spawn(command, args, { env: { ...process.env, ...env }, stdio: ["ignore", log, log] });
  closeSync(log);
  let failure: string | undefined;
  child.once("error", ({ message }) => (failure = message));
  child.once("exit", () => (failure ??= ""));
  // The daemon must not outlive a test process that ends early.
  process.once("exit", () => child.kill("SIGKILL"));
  await waitFor(() => failure !== undefined || isReady(), { what: command });
  if (failure !== undefined) throw new Error(`${command} ended: ${failure} ${readFileSync(logFile, "utf8")}`);
  return child;
}
