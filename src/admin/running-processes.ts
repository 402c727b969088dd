// The running processes with what /proc shows of their users and groups (proc(5), /proc/pid/status).
import { readdirSync, readFileSync } from "node:fs";

export interface RunningProcess {
  readonly pid: string;
  /** The name of its program, at most 15 characters. */
  readonly name: string;
  /** Returns the numbers in a field of its status: "Uid", "Gid" and "Groups". */
  readonly numbers: (field: string) => number[];
}

/** Yields every process; one that ends meanwhile is left out. */
export function* runningProcesses(proc = "/proc"): Generator<RunningProcess> {
  for (const pid of readdirSync(proc).filter((name) => /^\d+$/.test(name))) {
    const status = statusOf(`${proc}/${pid}/status`);
    if (status === undefined) continue;
    const field = (name: string): string => new RegExp(`^${name}:\\t?(.*)$`, "m").exec(status)?.[1] ?? "";
    yield {
      pid,
      name: field("Name"),
      numbers: (name) => (field(name).match(/\d+/g) ?? []).map(Number),
    };
  }
}

function statusOf(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}
