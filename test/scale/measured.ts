// Runs a command of the built program and measures its time and the peak memory of the command and its token hosts, as
// the kernel records it (VmHWM).

import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";

import { childrenOf, MAIN } from "../support/plugin-process.js";

const LOOK_EVERY_MS = 50;

export interface Measured {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly seconds: number;
  /** Of the command's own process, in MiB. */
  readonly peakMib: number;
  /** Of its token hosts together, in MiB; 0 if it has none. */
  readonly hostsPeakMib: number;
}

/** Runs a command and returns its result with the measurements. */
export async function measure(
  args: readonly string[],
  env: Readonly<Record<string, string>>,
): Promise<Measured> {
  const begun = performance.now();
  const child = spawn(process.execPath, [MAIN, ...args], { env: { ...process.env, ...env } });
  const peaks = new Map<number, number>();
  const look = (pid: number): void => {
    peaks.set(pid, Math.max(peaks.get(pid) ?? 0, highWaterMib(pid)));
  };
  const hosts = new Set<number>();
  const looking = setInterval(() => {
    if (child.pid === undefined) return;
    look(child.pid);
    for (const pid of tokenHostsOf(child.pid)) {
      hosts.add(pid);
      look(pid);
    }
  }, LOOK_EVERY_MS);
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
  const code = await new Promise<number | null>((resolve) => child.once("close", resolve));
  clearInterval(looking);
  return {
    code,
    stdout,
    stderr,
    seconds: (performance.now() - begun) / 1000,
    peakMib: peaks.get(child.pid ?? 0) ?? 0,
    hostsPeakMib: [...hosts].reduce((sum, pid) => sum + (peaks.get(pid) ?? 0), 0),
  };
}

function tokenHostsOf(pid: number): number[] {
  return childrenOf(pid).filter((child) => read(`/proc/${child}/cmdline`).includes("token-host"));
}

function highWaterMib(pid: number): number {
  const kibibytes = /^VmHWM:\s+(\d+)/m.exec(read(`/proc/${pid}/status`))?.[1];
  return Number(kibibytes ?? 0) / 1024;
}

/** Returns the file's text; "" if the process has ended. */
function read(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
