// What a connection to a receiver of streams does when the receiver closes first, and what it leaves behind.

import { getEventListeners, once } from "node:events";
import { readFileSync } from "node:fs";
import { connect as connectTo, createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { createServer as createTlsServer } from "node:tls";

import { afterEach, beforeEach, expect, it } from "vitest";

import { openTls, openUnixStream } from "../../../src/audit/sinks/stream-transport.js";
import { makeCertificate } from "../../support/certificate.js";
import { makeFolder } from "../../support/token.js";
import { waitFor } from "../../support/wait.js";

const LIMITS = { connectMs: 60_000, sendMs: 60_000, confirmMs: 60_000, settleMs: 2_000 };
const CLOSED = /the receiver closed the connection/;
/** More than the kernel buffers. */
const LARGE = Buffer.alloc(8 << 20, "x");

let server: Server;
let path: string;

beforeEach(async () => {
  path = join(makeFolder("stream"), "socket");
  server = createServer({ pauseOnConnect: true, allowHalfOpen: true }).listen(path);
  await once(server, "listening");
});
afterEach(() => {
  server.close();
});

const connect = async (signal = new AbortController().signal) => {
  const accepted = once(server, "connection") as Promise<[Socket]>;
  const transport = await openUnixStream(path, LIMITS, signal);
  const [receiver] = await accepted;
  return { transport, receiver: receiver.on("error", () => undefined) };
};

it("a send fails at once when the receiver ends the connection without reading", async () => {
  const { transport, receiver } = await connect();
  const sent = transport.send([LARGE]);
  receiver.end();
  await expect(sent).rejects.toThrow(CLOSED);
  expect(transport.failure?.message).toMatch(CLOSED);
  transport.close();
  receiver.destroy();
});

it("a receiver that ends the connection before the sender does confirms nothing", async () => {
  const { transport, receiver } = await connect();
  void transport.send([LARGE]).catch(() => undefined);
  const confirmed = transport.confirm();
  receiver.end();
  receiver.resume();
  await expect(confirmed).rejects.toThrow(CLOSED);
});

it("a receiver that sends data without end is disconnected, and confirms nothing", async () => {
  const { transport, receiver } = await connect();
  // Its peer disconnects while it writes.
  receiver.on("error", () => undefined);
  const closed = new Promise((resolve) => receiver.once("close", resolve));
  receiver.write(Buffer.alloc(64 * 1024));
  const endless = (): void => {
    while (receiver.write(LARGE));
    receiver.once("drain", endless);
  };
  endless();
  await closed;
  await waitFor(() => transport.failure);
  expect(transport.failure?.message).toMatch(/sends data without end; give the address of a syslog server/);
  await expect(transport.confirm()).rejects.toThrow(/without end/);
});

it("connections to a syslog receiver leave no listener on the signal that stops them", async () => {
  const stop = new AbortController();
  const { transport, receiver } = await connect(stop.signal);
  expect(getEventListeners(stop.signal, "abort")).toEqual([]);
  transport.close();
  receiver.destroy();
});

it("a TLS server whose close is still on its way when a message is sent confirms nothing", async () => {
  const folder = makeFolder("tls");
  const [ca, key] = [join(folder, "certificate.pem"), join(folder, "key.pem")];
  makeCertificate(ca, key);
  const tls = createTlsServer({ cert: readFileSync(ca), key: readFileSync(key) }, (socket) => {
    socket.on("error", () => undefined).destroy();
  }).listen(0, "127.0.0.1");
  await once(tls, "listening");
  const behind = tls.address() as AddressInfo;
  // A network that delivers a close late.
  const network = createServer({ allowHalfOpen: true }, (near) => {
    const far = connectTo({ port: behind.port, host: "127.0.0.1", allowHalfOpen: true });
    for (const end of [near, far]) end.on("error", () => undefined);
    near.on("data", (bytes) => far.write(bytes));
    far.on("data", (bytes) => near.write(bytes));
    far.on("end", () => setTimeout(() => near.end(), 300));
  }).listen(0, "127.0.0.1");
  await once(network, "listening");
  const { port } = network.address() as AddressInfo;
  const transport = await openTls({ host: "127.0.0.1", port, ca }, LIMITS, new AbortController().signal);
  await transport.send([Buffer.from("a line")]);
  await expect(transport.confirm()).rejects.toThrow(CLOSED);
  transport.close();
  network.close();
  tls.close();
});
