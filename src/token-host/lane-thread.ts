// The entry of a lane's thread, which has a compile cache of its own: sets it up before it loads the lane.
import { parentPort, workerData } from "node:worker_threads";
import { useCompileCache } from "../engine.js";
import type { LaneData } from "./lane.js";

useCompileCache();
const { serveLane } = await import("./lane.js");
if (parentPort === null) throw new TypeError("a lane is a thread of the token host");
serveLane(workerData as LaneData, parentPort);
