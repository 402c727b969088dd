// The entry of a lane's thread. The build joins it and all modules that it imports into lane-thread.cjs: loading some
// 65 modules one by one took about half of the processor time of a thread's start.
import { parentPort, workerData } from "node:worker_threads";
import { serveLane, type LaneData } from "./lane.js";

// Errors are answers here, and no stack leaves the thread: capturing it takes most of the time of a refused call.
Error.stackTraceLimit = 0;
if (parentPort === null) throw new TypeError("a lane is a thread of the token host");
serveLane(workerData as LaneData, parentPort);
