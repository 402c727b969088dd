import { once } from "node:events";
import { request } from "node:http";
import { connect } from "node:net";

import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { parseHttpAddress } from "../../src/config/http-address.js";
import { startHttp, type RunningHttp } from "../../src/observability/http.js";

let readiness = { ready: true, lines: ["ok"] };
let http: RunningHttp;

beforeAll(async () => {
  const content = {
    readiness: () => readiness,
    keys: (refresh: boolean) => ({ activeKeyId: "k", keys: [], ...(refresh && { refresh }) }),
    metrics: () => Promise.resolve("a_metric 1\n"),
    metricsType: "text/plain; version=0.0.4",
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
  it("are these five", async () => {
    expect(await get("/livez")).toMatchObject({ status: 200, body: "ok\n" });
    expect(await get("/readyz?verbose")).toMatchObject({ status: 200, body: "ok\n" });
    expect(await get("/healthz")).toMatchObject({ status: 200, body: "ok\n" });
    expect(await get("/metrics")).toMatchObject({ status: 200, body: "a_metric 1\n" });
    const keys = await get("/keys");
    expect(keys).toMatchObject({ status: 200, type: "application/json" });
    expect(JSON.parse(keys.body)).toEqual({ activeKeyId: "k", keys: [] });
    expect((await get("/keys?refresh")).body).toContain('"refresh": true');
    expect(await get("/")).toMatchObject({ status: 404 });
  });

  it("say 503 and why, one line a reason, while /livez does not depend on it", async () => {
    readiness = { ready: false, lines: ["HSM is away for 3 s: no token", "KEK k: gone"] };
    expect(await get("/readyz")).toMatchObject({
      status: 503,
      body: "HSM is away for 3 s: no token\nKEK k: gone\n",
    });
    expect(await get("/healthz")).toMatchObject({ status: 503 });
    expect(await get("/livez")).toMatchObject({ status: 200 });
    readiness = { ready: true, lines: ["ok"] };
  });

  it("take nothing but GET", async () => {
    for (const method of ["POST", "PUT", "DELETE"])
      expect(await get("/keys", {}, method)).toMatchObject({ status: 405 });
    expect(await get("/livez", {}, "HEAD")).toMatchObject({ status: 200, body: "" });
  });

  it.each([
    ["127.0.0.1:8090", 200],
    ["localhost:8090", 200],
    ["[::1]:8090", 200],
    ["evil.example", 403],
    ["evil.example:8090", 403],
    ["127.0.0.1.evil.example", 403],
  ])("answer Host %s with %i", async (host, status) => {
    expect((await get("/keys", { host })).status).toBe(status);
  });

  it("outlive garbage", async () => {
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

  it("answer although somebody holds all the connections that there may be", async () => {
    const holders = Array.from({ length: 64 }, () => connect(http.address.port, http.address.host));
    for (const holder of holders) holder.on("error", () => undefined);
    await Promise.all(holders.map((holder) => once(holder, "connect")));
    expect(await get("/livez")).toMatchObject({ status: 200 });
    for (const holder of holders) holder.destroy();
  });

  it("tell that a port is taken", async () => {
    await expect(startHttp(http.address, {} as never)).rejects.toMatchObject({
      code: "SOCKET_UNUSABLE",
      message: expect.stringContaining("choose another port") as string,
    });
  });

  it.each(["0.0.0.0:8090", "192.0.2.1:8090", "[::]:8090", "kms.example:8090"])(
    "are not served on %s",
    (address) => {
      expect(() => parseHttpAddress(address)).toThrow(/loopback/);
    },
  );
});
