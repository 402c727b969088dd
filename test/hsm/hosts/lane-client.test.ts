// How the plugin's end of a lane measures the time that one request keeps the token busy. The test writes the replies.

import { Duplex } from "node:stream";

import { afterEach, beforeEach, expect, it, vi } from "vitest";

import { LaneClient } from "../../../src/hsm/hosts/lane-client.js";
import { encodeFrame, ReplyKind } from "../../../src/hsm/wire.js";

const SERVICE_MS = 50;
const EMPTY = Buffer.alloc(0);

/** Returns the measured time for replies that reach the plugin together, as they do while it gets no processor. */
function measure(rounds: number, repliesAtOnce: number): number {
  const stream = new Duplex({
    read: () => undefined,
    write: (_chunk, _encoding, done) => {
      done();
    },
  });
  const lane = new LaneClient(stream, () => undefined);
  const ids: number[] = [];
  const build = (id: number): Buffer => {
    ids.push(id);
    return Buffer.alloc(5);
  };
  for (let round = 0; round < rounds; round++) {
    for (let one = 0; one < repliesAtOnce; one++) lane.send(build, () => undefined);
    vi.advanceTimersByTime(SERVICE_MS * repliesAtOnce);
    stream.emit("data", Buffer.concat(ids.splice(0).map((id) => encodeFrame(id, ReplyKind.done, EMPTY))));
  }
  return lane.serviceMs;
}

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["performance"] });
});

afterEach(() => {
  vi.useRealTimers();
});

it.each([1, 2, 16])("a token's speed is right if %i replies arrive together", (repliesAtOnce) => {
  expect(measure(20, repliesAtOnce)).toBe(SERVICE_MS);
});
