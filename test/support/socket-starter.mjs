// A process that binds a socket when its parent says so, with the program's own code, and reports the result.

import { createServer } from "node:net";
import { createInterface } from "node:readline";

import { bindSocket } from "../../dist/server/socket.js";

const [path] = process.argv.slice(2);
const settings = { path, abstract: false, mode: 0o600 };
let held;

async function start() {
  const server = createServer((socket) => {
    socket.on("error", () => undefined);
    socket.end(String(process.pid));
  });
  try {
    const bound = await bindSocket(server, settings, () => Promise.resolve("the peer"));
    held = { server, bound };
    return "bound";
  } catch (error) {
    server.close();
    return String(error.message);
  }
}

function stop() {
  held?.bound.remove();
  held?.server.close();
  held = undefined;
  return "stopped";
}

for await (const order of createInterface({ input: process.stdin })) {
  console.log(order === "start" ? await start() : stop());
}
