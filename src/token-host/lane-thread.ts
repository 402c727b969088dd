// The entry of a lane's thread, which has a compile cache of its own: sets it up before it loads the lane.
import { workerData } from "node:worker_threads";
import { useCompileCache } from "../engine.js";

useCompileCache();
const { serveLane } = await import("./lane.js");
serveLane((workerData as { fd: number }).fd);
