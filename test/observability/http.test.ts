// The HTTP endpoints: their answers, and clients that break the protocol or hold connections.

import { once } from "node:events";
import { request } from "node:http";
import { connect } from "node:net";

import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { parseHttpAddress } from "../../src/config/http-address.js";
import { startHttp, type RunningHttp } from "../../src/observability/http.js";

let readiness = { ready: true, lines: ["ok"] };
let http: RunningHttp;
let renderings = 0;
let metric = "a_metric 1\n";
let renderMs = 0;

beforeAll(async () => {
  const content = {
    readiness: () => readiness,
    keys: (refresh: boolean) => ({ activeKeyId: "k", keys: [], ...(refresh && { refresh }) }),
    metrics: () => {
      renderings += 1;
      const until = performance.now() + renderMs;
      while (performance.now() < until);
      return Promise.resolve(metric);
    },
    metricsType: "text/plain; version=0.0.4",
    page: () =>
      Promise.resolve({ body: "<p>page", headers: { "content-security-policy": "default-src 'none'" } }),
  };
  http = await startHttp({ host: "127.0.0.1", port: 0 }, content);
});

afterAll(() => http.stop());

interface Answer {
  readonly status: number | undefined;
  readonly type: string | undefined;
  readonly body: string;
}

const get = (path: string, headers: Record<string, string> = {}, method = "GET"): Promise<Answer> =>
  new Promise((resolve, reject) => {
    const asked = request({ ...http.address, path, method, headers }, (response) => {
      let body = "";
      response.setEncoding("utf8");
      response.on("data", (text: string) => (body += text));
      response.on("end", () => {
        resolve({ status: response.statusCode, type: response.headers["content-type"], body });
      });
    });
    asked.once("error", reject);
    asked.end();
  });

describe("the HTTP endpoints", () => {
  it("the HTTP endpoints are these six", async () => {
    expect(await get("/livez")).toMatchObject({ status: 200, body: "ok\n" });
    expect(await get("/readyz?verbose")).toMatchObject({ status: 200, body: "ok\n" });
    expect(await get("/healthz")).toMatchObject({ status: 200, body: "ok\n" });
    expect(await get("/metrics")).toMatchObject({ status: 200, body: "a_metric 1\n" });
    const keys = await get("/keys");
    expect(keys).toMatchObject({ status: 200, type: "application/json" });
    expect(JSON.parse(keys.body)).toEqual({ activeKeyId: "k", keys: [] });
    expect((await get("/keys?refresh")).body).toContain('"refresh": true');
    expect(await get("/")).toMatchObject({ status: 200, type: "text/html; charset=utf-8", body: "<p>page" });
    expect(await get("/other")).toMatchObject({ status: 404 });
  });

  it("the HTTP endpoints answer 503 with one line per reason; /livez does not depend on them", async () => {
    readiness = { ready: false, lines: ["HSM is away for 3 s: no token", "KEK k: gone"] };
    expect(await get("/readyz")).toMatchObject({
      status: 503,
      body: "HSM is away for 3 s: no token\nKEK k: gone\n",
    });
    expect(await get("/healthz")).toMatchObject({ status: 503 });
    expect(await get("/livez")).toMatchObject({ status: 200 });
    readiness = { ready: true, lines: ["ok"] };
  });

  it("the HTTP endpoints support only GET and HEAD", async () => {
    for (const method of ["POST", "PUT", "DELETE"]) {
      expect(await get("/keys", {}, method)).toMatchObject({ status: 405 });
    }
    expect(await get("/livez", {}, "HEAD")).toMatchObject({ status: 200, body: "" });
  });

  it.each([
    ["127.0.0.1:8090", 200],
    ["localhost:8090", 200],
    ["[::1]:8090", 200],
    ["evil.example", 403],
    ["evil.example:8090", 403],
    ["127.0.0.1.evil.example", 403],
  ])("the HTTP endpoints answer Host %s with %i", async (host, status) => {
    expect((await get("/keys", { host })).status).toBe(status);
  });

  it("the HTTP endpoints survive bytes that are not HTTP", async () => {
    for (const bytes of [
      "\x16\x03\x01garbage\r\n\r\n",
      `GET / HTTP/1.1\r\nx: ${"y".repeat(20_000)}\r\n\r\n`,
    ]) {
      const socket = connect(http.address.port, http.address.host);
      socket.on("error", () => undefined);
      socket.resume();
      socket.write(bytes, "latin1");
      await new Promise((resolve) => socket.once("close", resolve));
    }
    expect(await get("/livez")).toMatchObject({ status: 200 });
  });

  it("the HTTP endpoints answer although a client holds the maximum number of connections", async () => {
    const holders = Array.from({ length: 300 }, () => connect(http.address.port, http.address.host));
    for (const holder of holders) holder.on("error", () => undefined);
    await Promise.all(holders.map((holder) => once(holder, "connect")));
    expect(await get("/livez")).toMatchObject({ status: 200 });
    for (const holder of holders) holder.destroy();
  });

  it("the HTTP endpoints answer one request per connection, however many are sent", async () => {
    const socket = connect(http.address.port, http.address.host);
    let text = "";
    socket.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
    socket.on("error", () => undefined);
    const before = renderings;
    socket.write("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(2_000));
    await once(socket, "close");
    expect(text.match(/HTTP\/1\.1 200 OK/g)).toHaveLength(1);
    expect(text).toMatch(/connection: close/i);
    expect(text.endsWith(metric)).toBe(true);
    expect(renderings - before).toBe(1);
  });

  it("the HTTP endpoints accept a request that arrives in pieces", async () => {
    const socket = connect(http.address.port, http.address.host);
    let text = "";
    socket.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
    for (const piece of ["GET /li", "vez HTTP/1.1\r\nHost: local", "host\r\n\r", "\n"]) {
      await new Promise((resolve) => socket.write(piece, resolve));
      await new Promise((resolve) => setImmediate(resolve));
    }
    await once(socket, "close");
    expect(text).toMatch(/^HTTP\/1\.1 200 OK.*ok\n$/s);
  });

  it("the HTTP endpoints render once for simultaneous requests, never for clients that left", async () => {
    const before = renderings;
    const leaving = Array.from({ length: 20 }, () => request({ ...http.address, path: "/metrics" }));
    for (const one of leaving) one.on("error", () => undefined).end(() => one.destroy());
    const answers = await Promise.all(Array.from({ length: 30 }, () => get("/metrics")));
    for (const answer of answers) expect(answer).toMatchObject({ status: 200, body: metric });
    expect(renderings - before).toBeLessThan(30);
  });

  it("the HTTP endpoints never answer with a page that was rendered before the request", async () => {
    for (let count = 0; count < 20; count++) {
      metric = `a_metric ${count}\n`;
      expect(await get("/metrics")).toMatchObject({ body: metric });
    }
  });

  it("the HTTP endpoints answer every page while 150 connections keep asking for metrics", async () => {
    let cut = 0;
    let stopped = false;
    const ask = (): void => {
      if (stopped) return;
      const socket = connect(http.address.port, http.address.host);
      let answered = false;
      socket.on("error", () => undefined).on("data", () => (answered = true));
      socket.once("close", () => {
        if (!answered) cut += 1;
        ask();
      });
      socket.write("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    };
    renderMs = 5;
    for (let asking = 0; asking < 150; asking++) ask();
    try {
      for (let count = 0; count < 5; count++) {
        for (const path of ["/readyz", "/keys", "/livez"]) {
          expect(await get(path)).toMatchObject({ status: 200 });
        }
      }
      expect(await get("/metrics")).toMatchObject({ status: 200 });
      expect(cut).toBe(0);
    } finally {
      stopped = true;
      renderMs = 0;
    }
  });

  it("the HTTP endpoints close a connection whose answer is not read", async () => {
    const big = `${"x".repeat(99)}\n`.repeat(100_000);
    metric = big;
    const readers = Array.from({ length: 80 }, () => connect(http.address.port, http.address.host).pause());
    for (const reader of readers) {
      reader.on("error", () => undefined);
      reader.write("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    }
    const [first, last] = [readers[0], readers.at(-1)];
    if (first === undefined || last === undefined) throw new RangeError("no reader");
    // Answering the 65th closes the first.
    await once(last, "readable");
    expect(await get("/livez")).toMatchObject({ status: 200 });
    let bytes = 0;
    first.on("data", (chunk: Buffer) => (bytes += chunk.length)).resume();
    await once(first, "close");
    expect(bytes).toBeLessThan(big.length);
    for (const reader of readers) reader.destroy();
    metric = "a_metric 1\n";
  });

  it("the HTTP endpoints report that the port is taken", async () => {
    await expect(startHttp(http.address, {} as never)).rejects.toMatchObject({
      code: "SOCKET_UNUSABLE",
      message: expect.stringContaining("choose another port") as string,
    });
  });

  it.each(["0.0.0.0:8090", "192.0.2.1:8090", "[::]:8090", "kms.example:8090"])(
    "the HTTP endpoints are not served on %s",
    (address) => {
      expect(() => parseHttpAddress(address)).toThrow(/loopback/);
    },
  );
});
