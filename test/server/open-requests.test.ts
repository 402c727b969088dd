// When requests of one of several clusters begin: all clusters wait while the event loop begins a request of one.

import { EventEmitter } from "node:events";
import type { ServerHttp2Session, ServerHttp2Stream } from "node:http2";
import { setImmediate as nextTurn } from "node:timers/promises";

import { expect, it } from "vitest";

import { OpenRequests } from "../../src/server/open-requests.js";

const QUOTA = 32;
const FLOOD = 20;

/** A request that grpc-js has not begun to read. */
class UnreadStream extends EventEmitter {
  readonly readableFlowing = null;
}

const stream = (): ServerHttp2Stream => new UnreadStream() as unknown as ServerHttp2Stream;

const connection = (): ServerHttp2Session => new EventEmitter() as unknown as ServerHttp2Session;

it("of a flooding cluster, one request begins in a turn of the event loop", async () => {
  const requests = new OpenRequests(() => undefined, QUOTA);
  let begun = 0;
  const flooding = connection();
  for (let request = 0; request < FLOOD; request++) requests.take(flooding, stream(), () => begun++);
  for (let turn = 1; turn <= FLOOD; turn++) {
    expect(begun).toBe(turn);
    await nextTurn();
  }
  expect(begun).toBe(FLOOD);
  requests.stop();
});

it("a request of another cluster begins at once, although one floods", () => {
  const [flooded, quiet] = [
    new OpenRequests(() => undefined, QUOTA),
    new OpenRequests(() => undefined, QUOTA),
  ];
  const flooding = connection();
  for (let request = 0; request < FLOOD; request++) flooded.take(flooding, stream(), () => undefined);
  let hasBegun = false;
  quiet.take(connection(), stream(), () => (hasBegun = true));
  expect(hasBegun).toBe(true);
  for (const requests of [flooded, quiet]) requests.stop();
});
