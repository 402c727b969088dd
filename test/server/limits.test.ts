// Limits on requests: clients that open requests and do not end them, send them late or in small pieces, or do not read
// their answers.

import { describe, expect, it, vi } from "vitest";

import { MAX_OPEN, MAX_REQUEST_MS, MAX_SERVED, MAX_UNFINISHED } from "../../src/server/open-requests.js";
import { MAX_STREAMS } from "../../src/server/server.js";
import { HEADERS, message, Peer } from "../support/http2-peer.js";
import { ask, ECHO, useKmsServer } from "../support/kms-server.js";
import { waitFor } from "../support/wait.js";

const STREAMS = MAX_STREAMS;
const BODY_BYTES = 40 * 1024;

const server = useKmsServer();

/** Stops the clock: requests of a busy machine stay below the limits on time. */
function stopClock(): void {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
}

/** Waits for turns of the event loop, for tests with fake timers. */
async function waitForTurns(condition: () => boolean): Promise<void> {
  for (let turns = 0; turns < 100_000 && !condition(); turns++) {
    await new Promise((resolve) => setImmediate(resolve));
  }
  expect(condition()).toBe(true);
}

describe("requests that are not ended", () => {
  it("connections with the most unended requests lose them after a second", async () => {
    const modest = await new Peer(server).ready();
    const peers = await Promise.all(Array.from({ length: 2 }, () => new Peer(server).ready()));
    stopClock();
    const kept = modest.open();
    kept.write(message(1_000).subarray(0, 100));
    const half = message(BODY_BYTES).subarray(0, BODY_BYTES / 2);
    const streams = peers.flatMap((peer) => Array.from({ length: MAX_SERVED / 4 + 10 }, () => peer.open()));
    for (const stream of streams) stream.write(half);
    const ended = (): number => peers.reduce((sum, { closed }) => sum + closed.length, 0);
    const excess = streams.length + 1 - MAX_UNFINISHED;
    await Promise.all([modest, ...peers].map((peer) => peer.hasSent()));
    await vi.advanceTimersByTimeAsync(900);
    expect(ended()).toBe(0);
    await vi.advanceTimersByTimeAsync(1_000);
    await waitForTurns(() => ended() === excess);
    expect(peers.map(({ closed }) => closed.length)).toEqual([Math.ceil(excess / 2), Math.floor(excess / 2)]);
    expect(kept.closed).toBe(false);
    expect(new Set(server.limits)).toEqual(new Set(["too many unfinished requests"]));
    expect(await ask(server.client(), "Status")).toMatchObject({ healthz: "ok" });
  });

  it("unended requests do not affect another connection's complete ones, however many", async () => {
    stopClock();
    const peer = await new Peer(server).ready();
    for (let count = 0; count < STREAMS; count++) peer.open().write(message(1_000).subarray(0, 100));
    const client = server.client();
    const plaintext = Buffer.alloc(700, 7);
    const answers = Array.from({ length: STREAMS }, () => ask(client, "Encrypt", { plaintext }));
    for (const answer of await Promise.all(answers)) expect(answer["ciphertext"]).toEqual(plaintext);
  });

  it("unended requests are ended after ten seconds, also after an error was their answer", async () => {
    stopClock();
    const peer = new Peer(server);
    const streams = [peer.open(), peer.open(), peer.open()];
    streams[1]?.write(message(1_000).subarray(0, 100));
    // This request is answered at once with an error, but the client does not end it.
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

  it("unended requests end if they come in many DATA frames, each with a socket buffer", async () => {
    const peer = await new Peer(server).ready();
    const stream = peer.open();
    const closed = new Promise((resolve) => stream.once("close", resolve));
    const bytes = [...message(1_000).subarray(0, 20)];
    const writeNext = (): void => {
      const byte = bytes.shift();
      // One after another: bytes that are written at once travel in one frame.
      if (byte !== undefined && !stream.closed) stream.write(Buffer.of(byte), () => setImmediate(writeNext));
    };
    writeNext();
    await closed;
    expect(server.limits).toEqual(["too many pieces"]);
  });

  it("unended requests are released at once if the method does not exist", async () => {
    const peer = await new Peer(server).ready();
    const streams = Array.from({ length: STREAMS }, () => peer.open("/v2.KeyManagementService/Steal"));
    for (const stream of streams) stream.resume();
    await waitFor(() => peer.closed.length === STREAMS);
    expect(server.limits).toEqual([]);
  });
});

describe("answers that are not read", () => {
  it("answers that are not read are discarded after ten seconds", async () => {
    stopClock();
    const peer = new Peer(server, { settings: { initialWindowSize: 0 } });
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
  /** Holds Encrypts of HELD_BYTES bytes until the test releases them. */
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

  it("connections share the requests for the HSM, and a later one gets its own share", async () => {
    stopClock();
    const held = holdEncrypts();
    const clients = Array.from({ length: 8 }, () => server.client());
    const answers = clients.flatMap((client) =>
      Array.from({ length: STREAMS }, () => ask(client, "Encrypt", { plaintext })),
    );
    await waitForTurns(() => held.length >= MAX_SERVED);
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

  it("the connection with the most requests for the HSM loses some to another one", async () => {
    stopClock();
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
    await waitForTurns(() => server.limits.length > 0);
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
    // Never RESOURCE_EXHAUSTED: the client stays within the advertised limit.
    for (const outcome of outcomes) expect(outcome).toMatch(/^answered$|UNAVAILABLE/);
  });
});

describe("a client within the advertised number of streams", () => {
  it("a gRPC client has all its simultaneous requests within the stream limit served", async () => {
    stopClock();
    const client = server.client();
    const plaintexts = Array.from({ length: 500 }, (_, index) => Buffer.from(`seed ${index}`));
    const answers = await Promise.all(plaintexts.map((plaintext) => ask(client, "Encrypt", { plaintext })));
    expect(answers.map(({ ciphertext }) => ciphertext)).toEqual(plaintexts);
    expect(server.limits).toEqual([]);
  });

  it("a client at the stream limit is never refused the request that follows an ended one", async () => {
    const peer = await new Peer(server).ready();
    expect(peer.session.remoteSettings.maxConcurrentStreams).toBe(STREAMS);
    stopClock();
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
