// Disables Node's debugger, diagnostic reports and core dumps, which could expose PINs, DEK seeds and local KEKs. The
// plugin, its commands and the token host run it before anything else.
import { writeFileSync } from "node:fs";
import inspector from "node:inspector";

/** Hardens this process; child processes inherit the core dump filter. */
export function hardenProcess(): void {
  // By default, SIGUSR1 opens a debugger on a TCP port that every local user can reach.
  process.on("SIGUSR1", () => undefined);
  // NODE_OPTIONS may have opened it already. Worker threads have no debugger of their own unless it is open.
  if (inspector.url() !== undefined) inspector.close();
  process.report.reportOnFatalError = false;
  process.report.reportOnUncaughtException = false;
  process.report.reportOnSignal = false;
  emptyCoreDumps();
}

/** Excludes all memory from core dumps (core(5)), even if the kernel pipes them to a program regardless of the limit. */
function emptyCoreDumps(): void {
  try {
    writeFileSync("/proc/self/coredump_filter", "0");
  } catch {
    // A non-dumpable process, such as one of the container image, may not write this file. Others have /proc.
  }
}
