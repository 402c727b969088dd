// What grpc-js would print reaches neither logs nor terminals: it quotes the headers of any server.

import { createServer, type Http2Server } from "node:http2";
import type { AddressInfo } from "node:net";

import { afterEach, expect, it, vi } from "vitest";

import { EtcdClient } from "../src/etcd/client.js";
import { KmsClient } from "../src/kms-client/kms-client.js";
import { makeFolder } from "./support/token.js";

let server: Http2Server | undefined;

afterEach(() => {
  vi.restoreAllMocks();
  server?.close();
});

/** Starts a server that refuses every call, with a header that gRPC does not permit. */
async function refuse(at: string | number): Promise<Http2Server> {
  const refusing = createServer();
  refusing.on("stream", (stream) => {
    const fields = { "content-type": "application/grpc", "x-name": "\u009b2J caf\u00e9", "grpc-status": "7" };
    stream.respond(fields, { endStream: true });
  });
  await new Promise<void>((resolve) => refusing.listen(at, resolve));
  return refusing;
}

it("a KMS server's forbidden header is not printed", async () => {
  const printed = vi.spyOn(console, "error");
  const path = `${makeFolder("grpc-log")}/kms.sock`;
  server = await refuse(path);
  const client = new KmsClient(path);
  await expect(client.status()).rejects.toThrow("PERMISSION_DENIED");
  client.close();
  expect(printed).not.toHaveBeenCalled();
});

it("an etcd server's forbidden header is not printed", async () => {
  const printed = vi.spyOn(console, "error");
  server = await refuse(0);
  const { port } = server.address() as AddressInfo;
  const client = new EtcdClient({ endpoints: [`http://127.0.0.1:${port}`] });
  await expect(client.cluster()).rejects.toThrow();
  client.close();
  expect(printed).not.toHaveBeenCalled();
});
