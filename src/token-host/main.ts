// The token host: the one process that loads the vendor's PKCS#11 library. This thread makes no PKCS#11 call,
// so that it can always end the process when the plugin exits, even while a lane hangs. It starts lane 0 at
// once. The plugin writes the number of each later lane to standard input, one per line, and may start a lane again that it
// has ended. This thread passes what one lane has found to the others.
import { availableParallelism } from "node:os";
import { createInterface } from "node:readline";
import { SHARE_ENV, Worker } from "node:worker_threads";
import { hardenProcess } from "../hardening.js";
import { UNUSED_MEMORY_LIBRARY } from "../unused-memory.js";
import { userFromArguments } from "../hsm/wire-user.js";
import { becomeUser } from "./become-user.js";
import type { LaneData } from "./lane.js";
import { newSeenLogin } from "./login-state.js";
import type { SharedKek } from "./shared-kek.js";
import { newTurn } from "./turn.js";

hardenProcess();
const user = userFromArguments(process.argv);
if (user !== undefined) becomeUser(user);

/** File descriptor of lane 0; lane n uses FIRST_LANE_FD + n. */
const FIRST_LANE_FD = 3;
/** A lane needs little memory, and a control-plane node must fit many lanes. */
const LANE_LIMITS = { maxOldGenerationSizeMb: 32, maxYoungGenerationSizeMb: 2, stackSizeMb: 1 };

/** Number of threads that start at a time: the plugin and the lanes that work already need a processor too. */
const STARTING_AT_ONCE = Math.max(1, availableParallelism() - 1);

const turn = newTurn();
const seenLogin = newSeenLogin();
/** Lanes that wait until they may start, and the number of those that are starting. */
const toStart: number[] = [];
let starting = 0;
const lanes = new Set<Worker>();
/** What lanes have found, by key_id, for those that start later. */
const keks = new Map<string, SharedKek>();

function startLanes(): void {
  while (starting < STARTING_AT_ONCE) {
    const lane = toStart.shift();
    if (lane === undefined) return;
    starting++;
    startLane(lane);
  }
}

function startLane(lane: number): void {
  const workerData: LaneData = {
    fd: FIRST_LANE_FD + lane,
    turn,
    seenLogin,
    keks: [...keks.values()],
    unusedMemory: UNUSED_MEMORY_LIBRARY,
  };
  const worker = new Worker(new URL("./lane-thread.cjs", import.meta.url), {
    workerData,
    // The shim of the vendor's library reads the process's environment, in which a lane names the library.
    env: SHARE_ENV,
    resourceLimits: LANE_LIMITS,
  });
  lanes.add(worker);
  worker.on("online", () => {
    starting--;
    startLanes();
  });
  worker.on("message", (kek: SharedKek) => {
    keks.set(kek.record.keyId, kek);
    for (const other of lanes) if (other !== worker) other.postMessage(kek);
  });
  worker.on("error", (error: NodeJS.ErrnoException) => {
    // The plugin logs this line, but nothing that the vendor library prints.
    process.stderr.write(`token host lane ${lane}: ${error.code ?? error.name}\n`);
    die();
  });
  worker.on("exit", (code) => {
    if (code !== 0) die();
    lanes.delete(worker);
  });
}

/** Ends the process by a signal: process.exit() would wait for a call that hangs. */
function die(): void {
  process.kill(process.pid, "SIGKILL");
}

// Ctrl-C and hang-up of a terminal reach the whole process group; the plugin decides when its token hosts end.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => undefined);

const input = createInterface({ input: process.stdin });
input.on("line", (line) => {
  toStart.push(Number(line));
  startLanes();
});
input.on("close", die);
startLane(0);
