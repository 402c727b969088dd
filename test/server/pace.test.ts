// How fast connections are read: what a client meets while others send as much as they can.

import type { Socket } from "node:net";

import { beforeEach, expect, it, vi } from "vitest";

import { ask, useKmsServer } from "../support/kms-server.js";
import { OPENING, rpc } from "../support/http2-frames.js";

const CROWD = 80;
const REQUESTS = 100;

const server = useKmsServer();
// However slow the machine is, connections that answer no ping stay open.
beforeEach(() => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "setInterval", "clearInterval"] });
});

const BURST = Buffer.concat(
  Array.from({ length: REQUESTS }, (_, index) => rpc("Status", Buffer.alloc(0), { stream: 2 * index + 1 })),
);

/** Opens the connections of a crowd. */
const crowd = (): Socket[] => Array.from({ length: CROWD }, () => server.rawConnection().resume());
/** Returns the connections of a crowd that have received the server's SETTINGS. */
async function connectedCrowd(): Promise<Socket[]> {
  const sockets = crowd();
  await Promise.all(
    sockets.map((socket) => new Promise((resolve) => socket.once("data", resolve).write(OPENING))),
  );
  return sockets;
}

const handled = (): number => server.finished.length + server.limits.length;

/** Returns the most requests that were handled between two turns of the event loop while `work` ran. */
async function mostInATurn(work: () => Promise<unknown>): Promise<number> {
  let most = 0;
  let before = handled();
  let isDone = false;
  const look = (): void => {
    most = Math.max(most, handled() - before);
    before = handled();
    if (!isDone) setImmediate(look);
  };
  look();
  await work();
  isDone = true;
  return most;
}

it("a crowd's first requests do not delay a client that connects later", async () => {
  for (const socket of crowd()) socket.write(Buffer.concat([OPENING, BURST]));
  expect(await ask(server.client(), "Status")).toMatchObject({ healthz: "ok" });
  expect(handled()).toBeLessThan((CROWD * REQUESTS) / 4);
});

it("a connected crowd that sends all at once does not delay a connected client", async () => {
  const client = server.client();
  await ask(client, "Status");
  const sockets = await connectedCrowd();
  const before = handled();
  for (const socket of sockets) socket.write(BURST);
  expect(await ask(client, "Status")).toMatchObject({ healthz: "ok" });
  expect(handled() - before).toBeLessThan((CROWD * REQUESTS) / 4);
});

it("requests that a crowd sends at once are read in many turns, and all are handled", async () => {
  const sockets = await connectedCrowd();
  const most = await mostInATurn(async () => {
    for (const socket of sockets) socket.write(BURST);
    while (handled() < CROWD * REQUESTS) await new Promise((resolve) => setImmediate(resolve));
  });
  expect(most).toBeLessThan((CROWD * REQUESTS) / 10);
});
