// The entry of a lane's thread. Without the compile cache of engine.ts: for the few modules of a lane, setting it up takes
// longer than it saves.
import { parentPort, workerData } from "node:worker_threads";
import { serveLane, type LaneData } from "./lane.js";

if (parentPort === null) throw new TypeError("a lane is a thread of the token host");
serveLane(workerData as LaneData, parentPort);
