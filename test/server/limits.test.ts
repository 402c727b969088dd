// What one or many connections can make the server hold, and for how long: clients that open requests and do not end
// them, that send them late or in small pieces, or that do not read their answers.

import * as http2 from "node:http2";

import type { ClientHttp2Session, ClientHttp2Stream } from "node:http2";

import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { MAX_OPEN, MAX_REQUEST_MS, MAX_UNFINISHED } from "../../src/server/open-requests.js";
import { ask, ECHO, KmsServer } from "../support/kms-server.js";
import { waitFor } from "../support/wait.js";

const STREAMS = 100;
const HEADERS = {
  ":method": "POST",
  ":path": "/v2.KeyManagementService/Encrypt",
  "content-type": "application/grpc",
  te: "trailers",
};
const BODY_BYTES = 40 * 1024;

let server: KmsServer;

beforeEach(async () => {
  server = new KmsServer();
  await server.start();
});

afterEach(async () => {
  vi.useRealTimers();
  await server.remove();
});

/** A message of this length, with its gRPC prefix: the plaintext is what fills it. */
function message(bytes: number): Buffer {
  const framed = Buffer.alloc(bytes + 5);
  framed.writeUInt32BE(bytes, 1);
  const filled = bytes - 4;
  framed.set([0x0a, 0x80 | (filled & 0x7f), 0x80 | ((filled >> 7) & 0x7f), filled >> 14], 5);
  return framed;
}

class Peer {
  readonly closed: { readonly stream: ClientHttp2Stream; readonly code: number }[] = [];
  readonly session: ClientHttp2Session;

  constructor(options: http2.ClientSessionOptions = {}) {
    this.session = http2.connect("http://localhost", {
      ...options,
      createConnection: () => server.rawConnection(),
    });
    this.session.on("error", () => undefined);
  }

  /** Opens a request and leaves it open. */
  open(path = HEADERS[":path"]): ClientHttp2Stream {
    const stream = this.session.request({ ...HEADERS, ":path": path }, { endStream: false });
    stream.on("error", () => undefined);
    stream.on("close", () => this.closed.push({ stream, code: stream.rstCode }));
    return stream;
  }

  async ready(): Promise<this> {
    await waitFor(() => !this.session.connecting && this.session.remoteSettings.maxConcurrentStreams);
    return this;
  }
}

describe("requests that are not ended", () => {
  it("are bounded over all connections, the oldest go first, and a whole request is served beside them", async () => {
    const peers = await Promise.all(Array.from({ length: 4 }, () => new Peer().ready()));
    const half = message(BODY_BYTES).subarray(0, BODY_BYTES / 2);
    const streams = peers.flatMap((peer) => Array.from({ length: STREAMS }, () => peer.open()));
    for (const stream of streams) stream.write(half);
    const ended = (): number => peers.reduce((sum, { closed }) => sum + closed.length, 0);
    await waitFor(() => ended() === streams.length - MAX_UNFINISHED);
    expect(streams.filter((stream) => !stream.closed)).toHaveLength(MAX_UNFINISHED);
    expect(peers[0]?.closed).toHaveLength(STREAMS);
    expect(new Set(peers.flatMap(({ closed }) => closed.map(({ code }) => code)))).toEqual(
      new Set([http2.constants.NGHTTP2_ENHANCE_YOUR_CALM]),
    );
    expect(new Set(server.limits)).toEqual(new Set(["too many unfinished requests"]));
    expect(await ask(server.client(), "Status")).toMatchObject({ healthz: "ok" });
  });

  it("do not cost another connection its whole requests, though these are as many as it may have", async () => {
    const peer = await new Peer().ready();
    for (let count = 0; count < STREAMS; count++) peer.open().write(message(1_000).subarray(0, 100));
    const client = server.client();
    const plaintext = Buffer.alloc(700, 7);
    const answers = Array.from({ length: STREAMS }, () => ask(client, "Encrypt", { plaintext }));
    for (const answer of await Promise.all(answers)) expect(answer["ciphertext"]).toEqual(plaintext);
  });

  it("are ended after ten seconds, with or without an error that was their answer", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
    const peer = new Peer();
    const streams = [peer.open(), peer.open(), peer.open()];
    streams[1]?.write(message(1_000).subarray(0, 100));
    // This one has its answer at once, and is not ended either.
    streams[2]?.write(message(BODY_BYTES * 2).subarray(0, 100));
    await new Promise((resolve) => streams[2]?.once("response", resolve));
    await vi.advanceTimersByTimeAsync(MAX_REQUEST_MS - 100);
    expect(peer.closed).toEqual([]);
    const closed = Promise.all(
      streams.map((stream) => new Promise((resolve) => stream.once("close", resolve))),
    );
    await vi.advanceTimersByTimeAsync(1_200);
    await closed;
    expect(server.limits).toEqual(["too late", "too late", "too late"]);
  });

  it("are ended when they come in many pieces, each of which would keep what was read with it", async () => {
    const peer = await new Peer().ready();
    const stream = peer.open();
    const closed = new Promise((resolve) => stream.once("close", resolve));
    const bytes = [...message(1_000).subarray(0, 20)];
    const writeNext = (): void => {
      const byte = bytes.shift();
      // One after another: what is written at once travels in one frame.
      if (byte !== undefined && !stream.closed) stream.write(Buffer.of(byte), () => setImmediate(writeNext));
    };
    writeNext();
    await closed;
    expect(server.limits).toEqual(["too many pieces"]);
  });

  it("are let go at once where there is no such method", async () => {
    const peer = await new Peer().ready();
    const streams = Array.from({ length: STREAMS }, () => peer.open("/v2.KeyManagementService/Steal"));
    for (const stream of streams) stream.resume();
    await waitFor(() => peer.closed.length === STREAMS);
  });
});

describe("answers that are not read", () => {
  it("are thrown away after ten seconds", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
    const peer = new Peer({ settings: { initialWindowSize: 0 } });
    const stream = peer.open();
    stream.end(message(100));
    await new Promise((resolve) => stream.once("response", resolve));
    const closed = new Promise((resolve) => stream.once("close", resolve));
    await vi.advanceTimersByTimeAsync(MAX_REQUEST_MS + 1_000);
    await closed;
    expect(server.limits).toEqual(["too late"]);
  });
});

describe("requests that are being answered", () => {
  it("are bounded: one more is refused, and the others are answered", async () => {
    const waiting: (() => void)[] = [];
    server.provider = {
      ...ECHO,
      encrypt: async (plaintext, context) => {
        await new Promise<void>((resolve) => waiting.push(resolve));
        return ECHO.encrypt(plaintext, context);
      },
    };
    const clients = Array.from({ length: Math.ceil(MAX_OPEN / STREAMS) }, () => server.client());
    const plaintext = Buffer.alloc(32, 1);
    const answers = Array.from({ length: MAX_OPEN }, (_, index) => {
      const client = clients[index % clients.length];
      if (client === undefined) throw new RangeError("no client");
      return ask(client, "Encrypt", { plaintext });
    });
    await waitFor(() => waiting.length === MAX_OPEN, { what: "all requests", timeoutMs: 30_000 });
    await expect(ask(server.client(), "Encrypt", { plaintext })).rejects.toThrow(/RESOURCE_EXHAUSTED/);
    expect(server.limits).toEqual(["too many requests"]);
    for (const answer of waiting) answer();
    for (const answer of await Promise.all(answers)) expect(answer["ciphertext"]).toEqual(plaintext);
  });
});

it("a connection more than there may be is closed, and told of", async () => {
  const sockets = Array.from({ length: 33 }, () => server.rawConnection());
  await Promise.any(sockets.map((socket) => new Promise((resolve) => socket.once("close", resolve))));
  expect(server.limits).toEqual(["too many connections"]);
});
