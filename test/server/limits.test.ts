// What one or many connections can make the server hold, and for how long: clients that open requests and do not end
// them, that send them late or in small pieces, or that do not read their answers.

import * as http2 from "node:http2";

import type { ClientHttp2Session, ClientHttp2Stream } from "node:http2";

import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { MAX_IN_USE, MAX_NEW } from "../../src/server/connections.js";
import { MAX_OPEN, MAX_REQUEST_MS, MAX_SERVED, MAX_UNFINISHED } from "../../src/server/open-requests.js";
import { MAX_STREAMS } from "../../src/server/server.js";
import { ask, ECHO, KmsServer } from "../support/kms-server.js";
import { waitFor } from "../support/wait.js";

const STREAMS = MAX_STREAMS;
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
  readonly #settled: Promise<unknown>;

  constructor(options: http2.ClientSessionOptions = {}) {
    this.session = http2.connect("http://localhost", {
      ...options,
      createConnection: () => server.rawConnection(),
    });
    this.session.on("error", () => undefined);
    this.#settled = new Promise((resolve) => this.session.once("remoteSettings", resolve));
  }

  /** Opens a request and leaves it open. */
  open(path = HEADERS[":path"]): ClientHttp2Stream {
    const stream = this.session.request({ ...HEADERS, ":path": path }, { endStream: false });
    stream.on("error", () => undefined);
    stream.on("close", () => this.closed.push({ stream, code: stream.rstCode }));
    return stream;
  }

  async ready(): Promise<this> {
    await this.#settled;
    return this;
  }
}

/** While time stands still. */
async function waitForTurns(condition: () => boolean): Promise<void> {
  for (let turns = 0; turns < 10_000 && !condition(); turns++) {
    await new Promise((resolve) => setImmediate(resolve));
  }
  expect(condition()).toBe(true);
}

describe("requests that are not ended", () => {
  it("are bounded once they are a second old; the connections that have most of them lose them", async () => {
    const modest = await new Peer().ready();
    const peers = await Promise.all(Array.from({ length: 2 }, () => new Peer().ready()));
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
    const kept = modest.open();
    kept.write(message(1_000).subarray(0, 100));
    const half = message(BODY_BYTES).subarray(0, BODY_BYTES / 2);
    const streams = peers.flatMap((peer) => Array.from({ length: MAX_SERVED / 4 + 10 }, () => peer.open()));
    for (const stream of streams) stream.write(half);
    const ended = (): number => peers.reduce((sum, { closed }) => sum + closed.length, 0);
    const excess = streams.length + 1 - MAX_UNFINISHED;
    await ask(server.client(), "Status");
    await vi.advanceTimersByTimeAsync(900);
    expect(ended()).toBe(0);
    await vi.advanceTimersByTimeAsync(1_000);
    await waitForTurns(() => ended() === excess);
    expect(peers.map(({ closed }) => closed.length)).toEqual([Math.ceil(excess / 2), Math.floor(excess / 2)]);
    expect(kept.closed).toBe(false);
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

describe("requests that wait for the HSM", () => {
  /** Encrypts that are answered when the test says so. */
  const holdEncrypts = (): (() => void)[] => {
    const held: (() => void)[] = [];
    server.provider = {
      ...ECHO,
      encrypt: async (plaintext, context) => {
        if (plaintext.length === HELD_BYTES) await new Promise<void>((resolve) => held.push(resolve));
        return ECHO.encrypt(plaintext, context);
      },
    };
    return held;
  };
  const HELD_BYTES = 33;
  const plaintext = Buffer.alloc(HELD_BYTES, 1);

  it("have a share for each connection, and one that comes later has its own", async () => {
    const held = holdEncrypts();
    const clients = Array.from({ length: 8 }, () => server.client());
    const answers = clients.flatMap((client) =>
      Array.from({ length: STREAMS }, () => ask(client, "Encrypt", { plaintext })),
    );
    await waitFor(() => held.length >= MAX_SERVED, { what: "the shares" });
    const newcomer = server.client();
    for (let round = 0; round < 3; round++) {
      expect(await ask(newcomer, "Encrypt", { plaintext: Buffer.of(1) })).toMatchObject({ key_id: "k" });
    }
    expect(held.length).toBeLessThan(8 * STREAMS);
    const release = setInterval(() => {
      for (const answer of held.splice(0)) answer();
    }, 1);
    await Promise.all(answers);
    clearInterval(release);
    expect(server.limits).toEqual([]);
  });

  it("are bounded: the connection that has the most of them gives way to another one", async () => {
    const held = holdEncrypts();
    const clients = Array.from({ length: Math.ceil(MAX_OPEN / STREAMS) + 1 }, () => server.client());
    const ends = clients.flatMap((client) =>
      Array.from({ length: STREAMS }, () =>
        ask(client, "Encrypt", { plaintext }).then(
          () => "answered",
          (error: unknown) => String(error),
        ),
      ),
    );
    await waitFor(() => server.limits.length > 0, { what: "the limit", timeoutMs: 30_000 });
    const sealed = await ask(server.client(), "Encrypt", { plaintext: Buffer.of(1) });
    expect(sealed).toMatchObject({ key_id: "k" });
    const release = setInterval(() => {
      for (const answer of held.splice(0)) answer();
    }, 1);
    const outcomes = await Promise.all(ends);
    clearInterval(release);
    expect(new Set(server.limits)).toEqual(new Set(["too many requests"]));
    expect(outcomes.filter((outcome) => outcome === "answered").length).toBeGreaterThanOrEqual(
      MAX_OPEN - STREAMS,
    );
    // Never RESOURCE_EXHAUSTED, which says that the client asks too much: it keeps to what it was promised.
    for (const outcome of outcomes) expect(outcome).toMatch(/^answered$|UNAVAILABLE/);
  });
});

describe("a client that keeps to the advertised number of streams", () => {
  it("is served all that it asks at once, over a client of gRPC", async () => {
    const client = server.client();
    const plaintexts = Array.from({ length: 500 }, (_, index) => Buffer.from(`seed ${index}`));
    const answers = await Promise.all(plaintexts.map((plaintext) => ask(client, "Encrypt", { plaintext })));
    expect(answers.map(({ ciphertext }) => ciphertext)).toEqual(plaintexts);
    expect(server.limits).toEqual([]);
  });

  it("is never refused one, though it opens the next as soon as one ends", async () => {
    const peer = await new Peer().ready();
    expect(peer.session.remoteSettings.maxConcurrentStreams).toBe(STREAMS);
    const codes: number[] = [];
    let asked = 0;
    await new Promise<void>((resolve) => {
      const next = (): void => {
        if (asked++ >= 3_000) return;
        const stream = peer.session.request({ ...HEADERS, ":path": "/v2.KeyManagementService/Status" });
        stream.on("error", () => undefined).resume();
        stream.end(Buffer.alloc(5));
        stream.on("close", () => {
          codes.push(stream.rstCode);
          if (codes.length === 3_000) resolve();
          next();
        });
      };
      for (let count = 0; count < STREAMS; count++) next();
    });
    expect(new Set(codes)).toEqual(new Set([0]));
    expect(server.limits).toEqual([]);
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

  it("of more than 8 KiB end the request that has them", async () => {
    const peer = await new Peer().ready();
    expect(peer.session.remoteSettings.maxHeaderListSize).toBe(8_192);
    expect(await endOf(peer, { "x-bin": ",".repeat(10_000) })).not.toBe(0);
    expect(await endOf(peer, { "x-bin": ",".repeat(4_000) })).toBe(0);
    expect(await ask(server.client(), "Status")).toMatchObject({ healthz: "ok" });
  });

  it("that tell who asks, and under which trace, come through", async () => {
    const peer = await new Peer().ready();
    await endOf(peer, { "user-agent": "grpc-go/1.72.2", traceparent: "00-1-2-01" });
    expect(server.finished).toMatchObject([{ userAgent: "grpc-go/1.72.2", traceparent: "00-1-2-01" }]);
  });
});

describe("connections", () => {
  it("that have had no request are bounded, the oldest is closed, and others are served", async () => {
    const sockets = Array.from({ length: MAX_NEW + 1 }, () => server.rawConnection());
    const [oldest] = sockets;
    if (oldest === undefined) throw new RangeError("no connection");
    oldest.resume();
    await new Promise((resolve) => oldest.once("close", resolve));
    expect(await ask(server.client(), "Status")).toMatchObject({ healthz: "ok" });
    expect(new Set(server.limits)).toEqual(new Set(["too many connections"]));
  });

  it("in use are bounded, and the one whose last request is the longest ago is closed", async () => {
    const ping = (peer: Peer): Promise<void> =>
      new Promise((resolve) => {
        const stream = peer.open("/v2.KeyManagementService/Status");
        stream.resume().end(Buffer.alloc(5));
        stream.once("close", resolve);
      });
    const peers = Array.from({ length: MAX_IN_USE }, () => new Peer());
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

  it("with a request that is not answered yet outlive those without one", async () => {
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
