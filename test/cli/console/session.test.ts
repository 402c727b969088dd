// Who may see the console: the one-time ticket, the cookie, host names, methods and paths.

import { request } from "node:http";

import { afterAll, beforeAll, expect, it } from "vitest";

import { startConsole, type RunningConsole } from "../../../src/cli/console/server.js";

let running: RunningConsole;
let renderings = 0;

beforeAll(async () => {
  running = await startConsole(0, () => {
    renderings += 1;
    return Promise.resolve({ body: "the page", headers: { "content-security-policy": "its own" } });
  });
});

afterAll(() => running.stop());

interface Answer {
  readonly status: number | undefined;
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>;
  readonly body: string;
}

const ask = (path: string, headers: Record<string, string> = {}, method = "GET"): Promise<Answer> =>
  new Promise((resolve, reject) => {
    const { hostname, port } = new URL(running.url);
    request({ hostname, port, path, method, headers }, (response) => {
      let body = "";
      response.setEncoding("utf8").on("data", (text: string) => (body += text));
      response.on("end", () => {
        resolve({ status: response.statusCode, headers: response.headers, body });
      });
    })
      .once("error", reject)
      .end();
  });

const ticketPath = (): string => new URL(running.url).search;

it.each(["", "wrong", "%00", "x".repeat(4_000)])("the console refuses the ticket '%.10s'", async (ticket) => {
  const { status, headers } = await ask(`/?ticket=${ticket}`);
  expect(status).toBe(403);
  expect(headers["set-cookie"]).toBeUndefined();
});

it("the console exchanges the ticket for a cookie once, which admits to the page", async () => {
  expect((await ask(`/${ticketPath()}`, {}, "HEAD")).status).toBe(401);
  const { status, headers } = await ask(`/${ticketPath()}`);
  expect(status).toBe(303);
  expect(headers["location"]).toBe("/");
  const [setCookie = ""] = [headers["set-cookie"] ?? []].flat();
  expect(setCookie).toMatch(/^[\w-]+=[\w-]{43}; HttpOnly; SameSite=Strict; Path=\/$/);
  const [cookie = ""] = setCookie.split(";");
  expect(await ask("/", { cookie: `other=1; ${cookie}` })).toMatchObject({ status: 200, body: "the page" });
  expect((await ask("/", { cookie })).headers).toMatchObject({
    "content-security-policy": "its own",
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
  });
  expect((await ask(`/${ticketPath()}`)).status).toBe(403);
  expect((await ask(`/${ticketPath()}`, { cookie })).status).toBe(403);
  for (const wrong of ["", cookie.slice(0, -1), `${cookie}x`, cookie.replace("=", "x=")]) {
    expect((await ask("/", { cookie: wrong })).status, wrong).toBe(401);
  }
  const [rendered] = [renderings];
  await Promise.all(Array.from({ length: 50 }, () => ask("/", { cookie })));
  expect(renderings - rendered).toBeLessThan(10);
});

it.each([
  ["POST", "/", {}, 405],
  ["DELETE", "/", {}, 405],
  ["GET", "/keys", {}, 404],
  ["GET", "//", {}, 404],
  ["GET", "/../etc/passwd", {}, 404],
  ["GET", "/", { host: "evil.example" }, 403],
])("the console answers %s %s with host %j by status %i", async (method, path, headers, status) => {
  expect((await ask(path, headers as Record<string, string>, method)).status).toBe(status);
});
