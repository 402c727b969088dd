// Free TCP ports on loopback, below the kernel's range for outgoing connections: a server that is stopped for a while must
// find its port free again.

import { randomInt } from "node:crypto";
import { createServer, type ListenOptions, type Server } from "node:net";

const FIRST = 20_000;
const END = 32_000;
const TRIES = 200;

/**
 * Returns a port on 127.0.0.1 on which nothing listens, and which no other test on this machine gets while this process
 * runs. @param first the first port to choose from @param end the one behind the last
 */
export async function freePort(first = FIRST, end = END): Promise<number> {
  for (let tries = 0; tries < TRIES; tries++) {
    const port = randomInt(first, end);
    const claim = await listen({ path: `\0kms-pkcs11-test-port-${port}` });
    if (claim === undefined) continue;
    claim.unref();
    const server = await listen({ port, host: "127.0.0.1", exclusive: true });
    if (server === undefined) continue;
    await new Promise((resolve) => server.close(resolve));
    return port;
  }
  throw new Error(`no free port on 127.0.0.1 from ${first} to ${end - 1}`);
}

/**
 * Listens; undefined if another process does, or this one. A path that begins with NUL is the name of an abstract socket,
 * which the kernel removes with the process (unix(7)).
 */
function listen(options: ListenOptions): Promise<Server | undefined> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => {
      resolve(undefined);
    });
    server.listen(options, () => {
      resolve(server);
    });
  });
}
