// The token host: the one process that loads the vendor's PKCS#11 library. This thread makes no PKCS#11 call,
// so that it can always end the process when the plugin goes away, however deep a lane hangs. The plugin
// writes the number of each lane to be started to standard input, one a line.
import { createInterface } from "node:readline";
import { Worker } from "node:worker_threads";
import { hardenProcess } from "../hardening.js";

hardenProcess();

/** File descriptor of lane 0; lane n has the n-th after it. */
const FIRST_LANE_FD = 3;
/** A lane needs little: the smaller its heap, the more of them fit a control-plane node. */
const LANE_LIMITS = { maxOldGenerationSizeMb: 32, maxYoungGenerationSizeMb: 2, stackSizeMb: 1 };

function startLane(lane: number): void {
  const worker = new Worker(new URL("./lane-thread.js", import.meta.url), {
    workerData: { fd: FIRST_LANE_FD + lane },
    resourceLimits: LANE_LIMITS,
  });
  worker.on("error", (error: NodeJS.ErrnoException) => {
    // The plugin logs this line, and nothing that the vendor library prints beside it.
    process.stderr.write(`token host lane ${lane}: ${error.code ?? error.name}\n`);
    die();
  });
  worker.on("exit", die);
}

/** process.exit() would wait for a call that hangs; a signal does not. */
function die(): void {
  process.kill(process.pid, "SIGKILL");
}

// A terminal's Ctrl-C and its end reach the whole process group; the plugin decides when its token hosts end.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => undefined);

const input = createInterface({ input: process.stdin });
input.on("line", (line) => {
  startLane(Number(line));
});
input.on("close", die);
