// Connections to etcd ignore the proxy settings of the environment, which are meant for the web.

import { createServer, type AddressInfo, type Server } from "node:net";

import { afterEach, beforeEach, expect, it, vi } from "vitest";

import { EtcdClient } from "../../src/etcd/client.js";

/** Counts connections, and ends each. */
class Counter {
  count = 0;
  readonly server: Server = createServer((socket) => {
    this.count++;
    socket.destroy();
  });

  async listen(): Promise<number> {
    await new Promise<void>((resolve) => this.server.listen(0, resolve));
    return (this.server.address() as AddressInfo).port;
  }
}

let proxy: Counter;
let target: Counter;
let targetPort: number;

beforeEach(async () => {
  proxy = new Counter();
  target = new Counter();
  const proxyPort = await proxy.listen();
  targetPort = await target.listen();
  for (const name of ["http_proxy", "https_proxy", "grpc_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy"]) {
    vi.stubEnv(name, `http://127.0.0.1:${proxyPort}`);
  }
});

afterEach(() => {
  vi.unstubAllEnvs();
  proxy.server.close();
  target.server.close();
});

it.each(["http", "https"])("etcd over %s is reached without the environment's proxy", async (scheme) => {
  const client = new EtcdClient({ endpoints: [`${scheme}://127.0.0.1:${targetPort}`] });
  await expect(client.cluster()).rejects.toThrow();
  client.close();
  expect([proxy.count, target.count > 0]).toEqual([0, true]);
});
