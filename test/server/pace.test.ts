// How fast connections are read: what a client meets while others send as much as they can.

import type { Socket } from "node:net";

import { describe, expect, it } from "vitest";

import { ask, useKmsServer } from "../support/kms-server.js";
import {
  callHeaders,
  DATA,
  END_HEADERS,
  END_STREAM,
  frame,
  grpcMessage,
  HEADERS,
  PREFACE,
  SETTINGS,
} from "../soak/frames.js";

const CROWD = 80;
const REQUESTS = 100;

const server = useKmsServer();

const OPENING = Buffer.concat([PREFACE, frame(SETTINGS, 0, 0, Buffer.alloc(0)), frame(SETTINGS, 1, 0)]);
const BURST = Buffer.concat(
  Array.from({ length: REQUESTS }, (_, index) => {
    const stream = 2 * index + 1;
    return Buffer.concat([
      frame(HEADERS, END_HEADERS, stream, callHeaders("Status")),
      frame(DATA, END_STREAM, stream, grpcMessage(Buffer.alloc(0))),
    ]);
  }),
);

const crowd = (): Socket[] => Array.from({ length: CROWD }, () => server.rawConnection().resume());
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

describe("a crowd that sends a hundred requests on each connection", () => {
  it("before the server's SETTINGS does not delay a client that connects later", async () => {
    for (const socket of crowd()) socket.write(Buffer.concat([OPENING, BURST]));
    expect(await ask(server.client(), "Status")).toMatchObject({ healthz: "ok" });
    expect(handled()).toBeLessThan((CROWD * REQUESTS) / 4);
  });

  it("at the same moment does not delay a connected client", async () => {
    const client = server.client();
    await ask(client, "Status");
    const sockets = crowd();
    await Promise.all(
      sockets.map((socket) => new Promise((resolve) => socket.once("data", resolve).write(OPENING))),
    );
    const before = handled();
    for (const socket of sockets) socket.write(BURST);
    expect(await ask(client, "Status")).toMatchObject({ healthz: "ok" });
    expect(handled() - before).toBeLessThan((CROWD * REQUESTS) / 4);
  });

  it("at the same moment is read in many turns, and all of it is handled", async () => {
    const sockets = crowd();
    await Promise.all(
      sockets.map((socket) => new Promise((resolve) => socket.once("data", resolve).write(OPENING))),
    );
    const most = await mostInATurn(async () => {
      for (const socket of sockets) socket.write(BURST);
      while (handled() < CROWD * REQUESTS) await new Promise((resolve) => setImmediate(resolve));
    });
    expect(most).toBeLessThan((CROWD * REQUESTS) / 10);
  });
});
