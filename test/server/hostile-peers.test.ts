// A hostile or broken client of the gRPC server does not affect the other clients.

import * as http2 from "node:http2";

import { status } from "@grpc/grpc-js";
import { describe, expect, it, vi } from "vitest";

import { HEADERS, message, Peer } from "../support/http2-peer.js";
import { ask, useKmsServer, start } from "../support/kms-server.js";

const server = useKmsServer();

describe("hostile peers", () => {
  it("hostile peers get an error for bytes that are not a message, or a message too long", async () => {
    const client = server.client();
    for (const method of ["Encrypt", "Decrypt"]) {
      const garbage = start(client, method, {}, Buffer.alloc(50, 0xff)).answer;
      await expect(garbage).rejects.toMatchObject({ code: status.INTERNAL });
      const long = start(client, method, {
        ciphertext: Buffer.alloc(70_000),
        plaintext: Buffer.alloc(70_000),
      });
      await expect(long.answer).rejects.toMatchObject({ code: status.RESOURCE_EXHAUSTED });
    }
    expect(server.finished).toEqual([]);
    expect(await ask(client, "Status")).toMatchObject({ healthz: "ok" });
  });

  it("a peer gets UNIMPLEMENTED for another method", async () => {
    const client = server.client();
    const session = http2.connect("http://localhost", { createConnection: () => server.rawConnection() });
    session.on("error", () => undefined);
    const stream = session.request({
      ":method": "POST",
      ":path": "/v2.KeyManagementService/Steal",
      "content-type": "application/grpc",
      te: "trailers",
    });
    const headers = await new Promise<http2.IncomingHttpHeaders>((resolve) =>
      stream.once("response", resolve),
    );
    expect(headers["grpc-status"]).toBe(String(status.UNIMPLEMENTED));
    session.destroy();
    expect(await ask(client, "Status")).toMatchObject({ healthz: "ok" });
  });

  it("a request with a header that gRPC does not permit is served, and prints nothing", async () => {
    const printed = [vi.spyOn(console, "error"), vi.spyOn(process.stderr, "write")];
    const { session } = await new Peer(server).ready();
    const stream = session.request({ ...HEADERS, "user-agent": "caf\u00e9 \u009b2J" });
    stream.end(message(32));
    stream.resume();
    const trailers = await new Promise<http2.IncomingHttpHeaders>((resolve) =>
      stream.once("trailers", resolve),
    );
    expect(trailers["grpc-status"]).toBe(String(status.OK));
    expect(server.finished).toMatchObject([{ userAgent: "caf? ?2J" }]);
    for (const print of printed) expect(print).not.toHaveBeenCalled();
    session.destroy();
  });

  const PREFACE = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
  const SETTINGS = "\0\0\0\x04\0\0\0\0\0";
  it.each([
    ["random bytes", Buffer.from("\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03".repeat(40), "latin1")],
    ["HTTP/1", Buffer.from("POST /v2.KeyManagementService/Status HTTP/1.1\r\nHost: x\r\n\r\n")],
    ["a preface and no frame", Buffer.from(PREFACE + "\xff".repeat(400), "latin1")],
    [
      "headers that do not decode",
      Buffer.from(`${PREFACE}${SETTINGS}\0\0\x04\x01\x05\0\0\0\x01\xff\xff\xff\xff`, "latin1"),
    ],
    [
      "a continuation of nothing",
      Buffer.from(`${PREFACE}${SETTINGS}\0\0\x01\x09\x04\0\0\0\x01\x82`, "latin1"),
    ],
    [
      "a window that overflows",
      Buffer.from(`${PREFACE}${SETTINGS}${"\0\0\x04\x08\0\0\0\0\0\x7f\xff\xff\xff".repeat(3)}`, "latin1"),
    ],
  ])("hostile peers do not disturb the others with %s", async (_what, bytes) => {
    const client = server.client();
    await ask(client, "Status");
    const socket = server.rawConnection();
    const noticed = new Promise((resolve) => socket.once("close", resolve).once("data", resolve));
    socket.write(bytes);
    await noticed;
    socket.destroy();
    expect(await ask(client, "Status")).toMatchObject({ healthz: "ok" });
    expect(await ask(server.client(), "Status")).toMatchObject({ healthz: "ok" });
  });

  it("hostile peers are disconnected if their HTTP/2 has failed and they do not answer a ping", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "setInterval", "clearInterval"] });
    const broken = server.rawConnection();
    const noticed = new Promise((resolve) => broken.once("data", resolve));
    broken.write(Buffer.from(`${PREFACE}${SETTINGS}\0\0\x01\x09\x04\0\0\0\x01\x82`, "latin1"));
    await noticed;
    const ended = new Promise((resolve) => broken.once("close", resolve));
    await vi.advanceTimersByTimeAsync(10_001);
    await ended;
  });

  it.each(["", "PRI * HTTP/2.0\r\n"])(
    "hostile peers are disconnected after ten seconds if they send only %j",
    async (begun) => {
      vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
      const silent = server.rawConnection();
      silent.write(begun);
      const talking = http2.connect("http://localhost", { createConnection: () => server.rawConnection() });
      talking.on("error", () => undefined);
      const connected = new Promise((resolve) => silent.once("connect", resolve));
      await Promise.all([connected, new Promise((resolve) => talking.once("remoteSettings", resolve))]);
      silent.resume();
      const ended = new Promise((resolve) => silent.once("close", resolve));
      await vi.advanceTimersByTimeAsync(9_999);
      expect(silent.destroyed).toBe(false);
      await vi.advanceTimersByTimeAsync(1_001);
      await ended;
      expect(talking.destroyed).toBe(false);
      talking.destroy();
    },
  );
});
