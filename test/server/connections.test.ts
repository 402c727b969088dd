// Limits on connections and headers: how many connections there may be, and which one is closed to admit a new one.

import { describe, expect, it, vi } from "vitest";

import { MAX_IN_USE, MAX_NEW } from "../../src/server/connections.js";
import { OPENING, rpc } from "../support/http2-frames.js";
import { HEADERS, Peer } from "../support/http2-peer.js";
import { ask, ECHO, useKmsServer } from "../support/kms-server.js";

const server = useKmsServer();

describe("connections", () => {
  it("connections without a request are limited: the oldest is closed, others are served", async () => {
    const sockets = Array.from({ length: MAX_NEW + 1 }, () => server.rawConnection());
    const [oldest] = sockets;
    if (oldest === undefined) throw new RangeError("no connection");
    oldest.resume();
    await new Promise((resolve) => oldest.once("close", resolve));
    expect(await ask(server.client(), "Status")).toMatchObject({ healthz: "ok" });
    expect(new Set(server.limits)).toEqual(new Set(["too many connections"]));
  });

  it("silent connections do not displace one that has begun", async () => {
    const begun = server.rawConnection();
    await new Promise((resolve) => begun.once("data", resolve).write(OPENING));
    for (let count = 0; count <= MAX_NEW; count++) server.rawConnection();
    await vi.waitUntil(() => server.limits.length > 0);
    await new Promise((resolve) => begun.once("data", resolve).write(rpc("Status", Buffer.alloc(0))));
    expect(begun.destroyed).toBe(false);
  });

  it("connections that begin do not displace a silent one", async () => {
    const silent = server.rawConnection();
    await new Promise((resolve) => silent.once("connect", resolve));
    for (let count = 0; count <= MAX_NEW; count++) server.rawConnection().resume().write(OPENING);
    await vi.waitUntil(() => server.limits.length > 0);
    await new Promise((resolve) => silent.once("data", resolve).write(OPENING));
    expect(silent.destroyed).toBe(false);
  });

  it("HTTP/2 does not begin on connections whose client has gone", async () => {
    const gone = Array.from({ length: 4 * MAX_NEW }, () => server.rawConnection());
    for (const socket of gone) socket.once("connect", () => socket.write(OPENING) && socket.destroy());
    await Promise.all(gone.map((socket) => new Promise((resolve) => socket.once("close", resolve))));
    expect(await ask(server.client(), "Status")).toMatchObject({ healthz: "ok" });
    // Connections are numbered when HTTP/2 begins on them.
    expect(server.finished).toMatchObject([{ peer: "connection 1" }]);
    expect(server.limits).toEqual([]);
  });

  it("connections in use are limited: the one that has been idle longest is closed", async () => {
    const ping = (peer: Peer): Promise<void> =>
      new Promise((resolve) => {
        const stream = peer.open("/v2.KeyManagementService/Status");
        stream.resume().end(Buffer.alloc(5));
        stream.once("close", resolve);
      });
    const peers = Array.from({ length: MAX_IN_USE }, () => new Peer(server));
    for (const peer of peers) await ping(peer);
    const [first, second] = peers;
    if (first === undefined || second === undefined) throw new RangeError("no connection");
    await ping(first);
    expect(server.limits).toEqual([]);
    const closed = new Promise((resolve) => second.session.once("close", resolve));
    expect(await ask(server.client(), "Status")).toMatchObject({ healthz: "ok" });
    await closed;
    expect(first.session.closed).toBe(false);
    expect(server.limits).toEqual(["too many connections"]);
  });

  it("connections with an unanswered request outlive those without one", async () => {
    // However slow the machine is, the request does not count as stuck.
    vi.useFakeTimers({ toFake: ["performance"] });
    let answer = (): void => undefined;
    server.provider = {
      ...ECHO,
      decrypt: async () => {
        await new Promise<void>((resolve) => (answer = resolve));
        return Buffer.from("late");
      },
    };
    const late = ask(server.client(), "Decrypt", { ciphertext: Buffer.of(1), key_id: "k" });
    for (let count = 0; count <= MAX_IN_USE; count++) await ask(server.client(), "Status");
    answer();
    expect(String((await late)["plaintext"])).toBe("late");
  });
});

describe("headers", () => {
  const endOf = (peer: Peer, headers: Readonly<Record<string, string>>): Promise<number> =>
    new Promise((resolve) => {
      const stream = peer.session.request({
        ...HEADERS,
        ":path": "/v2.KeyManagementService/Status",
        ...headers,
      });
      stream.on("error", () => undefined).resume();
      stream.end(Buffer.alloc(5));
      stream.on("close", () => {
        resolve(stream.rstCode);
      });
    });

  it("request headers of more than 8 KiB end their request alone", async () => {
    const peer = await new Peer(server).ready();
    expect(peer.session.remoteSettings.maxHeaderListSize).toBe(8_192);
    expect(await endOf(peer, { "x-bin": ",".repeat(10_000) })).not.toBe(0);
    expect(await endOf(peer, { "x-bin": ",".repeat(4_000) })).toBe(0);
    expect(await ask(server.client(), "Status")).toMatchObject({ healthz: "ok" });
  });

  it("request headers that identify the client and its trace are passed on", async () => {
    const peer = await new Peer(server).ready();
    await endOf(peer, { "user-agent": "grpc-go/1.72.2", traceparent: "00-1-2-01" });
    expect(server.finished).toMatchObject([{ userAgent: "grpc-go/1.72.2", traceparent: "00-1-2-01" }]);
  });
});
