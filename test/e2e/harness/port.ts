// Free loopback ports, below the kernel's ephemeral range: a server that is stopped for a while must find its port free
// again, and not in use by an outgoing connection.

import { createServer } from "node:net";
import { randomInt } from "node:crypto";

const handedOut = new Set<number>();

/** Returns a port on 127.0.0.1 on which nothing listens; never the same port twice in one process. */
export async function freePort(): Promise<number> {
  for (let tries = 0; tries < 200; tries++) {
    const port = randomInt(20_000, 32_000);
    if (handedOut.has(port) || !(await isFree(port))) continue;
    handedOut.add(port);
    return port;
  }
  throw new Error("no free port on 127.0.0.1 between 20000 and 32000");
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => {
      resolve(false);
    });
    server.listen({ port, host: "127.0.0.1", exclusive: true }, () => {
      server.close(() => {
        resolve(true);
      });
    });
  });
}
