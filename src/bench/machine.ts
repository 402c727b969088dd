// What a figure depends on besides the code: the machine, its load, and the versions.
import { arch, availableParallelism, cpus, loadavg, release, totalmem, type } from "node:os";

export interface Machine {
  readonly time: string;
  readonly cpu: string;
  readonly cores: number;
  readonly memoryMib: number;
  readonly system: string;
  /** Over the last minute before the measurements; if it exceeds the number of cores, the figures are unreliable. */
  readonly loadAverage: number;
  readonly node: string;
  readonly openssl: string;
}

/** Returns the description of this machine at this time. */
export function describeMachine(): Machine {
  return {
    time: new Date().toISOString(),
    cpu: cpus()[0]?.model.trim() ?? "unknown",
    cores: availableParallelism(),
    memoryMib: Math.round(totalmem() / 2 ** 20),
    system: `${type()} ${release()} ${arch()}`,
    loadAverage: Math.round((loadavg()[0] ?? 0) * 100) / 100,
    node: process.version,
    openssl: process.versions.openssl,
  };
}
