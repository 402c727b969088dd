// The entry of a thread that counts stored objects. Without the compile cache of engine.ts: for its few modules, setting it up
// takes longer than it saves.
import { parentPort, workerData } from "node:worker_threads";
import { Counting } from "./counting.js";
import type { Task, ToThread } from "./messages.js";

if (parentPort === null) throw new TypeError("started as a thread of a command");
const port = parentPort;
const counting = new Counting(workerData as Task, (message) => {
  port.postMessage(message);
});
port.on("message", (message: ToThread) => void counting.receive(message));
