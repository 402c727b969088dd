// Closes what Node leaves open to whoever may signal the process, or gave it its environment, and what the kernel would
// write to a disk: debugger, core dumps, diagnostic reports. They would show PIN, DEK seeds and local KEKs. The first
// thing that the plugin, its commands and the token host do.
import { writeFileSync } from "node:fs";
import inspector from "node:inspector";

export function hardenProcess(): void {
  // Node would open its debugger on a TCP port of the machine, for any of its users.
  process.on("SIGUSR1", () => undefined);
  // Where NODE_OPTIONS has it open already. Worker threads have none of their own unless it is.
  if (inspector.url() !== undefined) inspector.close();
  process.report.reportOnFatalError = false;
  process.report.reportOnUncaughtException = false;
  process.report.reportOnSignal = false;
  emptyCoreDumps();
}

/**
 * A core dump without any of the process's memory (core(5)), also where the kernel hands it to a program and asks no
 * limit. Child processes inherit it.
 */
function emptyCoreDumps(): void {
  try {
    writeFileSync("/proc/self/coredump_filter", "0");
  } catch {
    // A process that the kernel dumps nothing of, as that of the package is, may not write there. Others have /proc.
  }
}
