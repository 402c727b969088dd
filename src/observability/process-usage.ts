// Measures memory and CPU time of other processes, the token hosts, from /proc. The time of ended processes stays in
// the sum, so that it never decreases.
import { readFileSync } from "node:fs";

/** USER_HZ: 100 on every Linux that Node runs on (proc(5), times(2)). */
const TICKS_PER_SECOND = 100;

/** Measures memory and CPU time of a changing set of processes. */
export class ProcessUsage {
  readonly #pids: () => readonly number[];
  #ended = 0;
  #running = new Map<number, number>();

  constructor(pids: () => readonly number[]) {
    this.#pids = pids;
  }

  /** Resident memory of the running processes, in bytes. */
  get residentBytes(): number {
    return this.#pids().reduce((sum, pid) => sum + residentBytesOf(pid), 0);
  }

  /** Proportional memory (PSS) of the running processes, in bytes; NaN if the kernel does not report that of each. */
  get proportionalBytes(): number {
    return this.#pids().reduce((sum, pid) => sum + proportionalBytesOf(pid), 0);
  }

  /** CPU time of all processes so far, as of their last measurement. */
  get cpuSeconds(): number {
    const now = new Map<number, number>();
    for (const pid of this.#pids()) {
      const seconds = cpuSecondsOf(pid);
      if (seconds !== undefined) now.set(pid, seconds);
    }
    for (const [pid, seconds] of this.#running) if (!now.has(pid)) this.#ended += seconds;
    this.#running = now;
    return [...now.values()].reduce((sum, seconds) => sum + seconds, this.#ended);
  }
}

function cpuSecondsOf(pid: number): number | undefined {
  // The second field, the name, may contain spaces and parentheses: fields are counted after the last parenthesis.
  const stat = read(pid, "stat");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return stat === "" ? undefined : (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

function residentBytesOf(pid: number): number {
  return 1024 * Number(/^VmRSS:\s+(\d+) kB/m.exec(read(pid, "status"))?.[1] ?? 0);
}

/** Divides memory that several processes share among them. Readable only by those that may trace the process. */
function proportionalBytesOf(pid: number): number {
  const kilobytes = /^Pss:\s+(\d+) kB/m.exec(read(pid, "smaps_rollup"))?.[1];
  if (kilobytes !== undefined) return 1024 * Number(kilobytes);
  return residentBytesOf(pid) === 0 ? 0 : Number.NaN;
}

/** Returns a file of /proc/PID; an empty string if the process has ended. */
function read(pid: number, file: string): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, "utf8");
  } catch {
    return "";
  }
}
