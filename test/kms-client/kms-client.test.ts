// The client's addresses: an endpoint of kube-apiserver's configuration leads the client to the same socket.

import { createServer } from "node:net";
import { join } from "node:path";

import { expect, it } from "vitest";

import { KmsClient } from "../../src/kms-client/kms-client.js";
import { makeFolder } from "../support/token.js";

const path = join(makeFolder("kms-client"), "kms.sock");
const name = `kms-client-${process.pid}`;

it.each([
  [path, path],
  [`unix:${path}`, path],
  [`unix://${path}`, path],
  [`unix:///@${name}`, `\0${name}`],
])("the client connects to %s", async (endpoint, listening) => {
  let connections = 0;
  const server = createServer((socket) => {
    connections++;
    socket.destroy();
  });
  await new Promise<void>((resolve) => server.listen(listening, resolve));
  const client = new KmsClient(endpoint);
  await expect(client.status()).rejects.toThrow();
  client.close();
  await new Promise((resolve) => server.close(resolve));
  expect(connections).toBeGreaterThan(0);
});
