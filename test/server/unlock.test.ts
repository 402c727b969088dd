// The socket that receives PINs, in this process: its file, and clients that break the protocol.

import { rmSync, statSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";

import { afterEach, beforeEach, expect, it, vi } from "vitest";

import { KmsError } from "../../src/errors.js";
import { startUnlock, type RunningUnlock } from "../../src/server/unlock.js";
import { makeFolder } from "../support/token.js";
import { waitFor } from "../support/wait.js";

const MAX_PIN_BYTES = 16;

let folder: string;
let path: string;
let unlock: RunningUnlock;
let received: string[];
let problems: (string | undefined)[];

beforeEach(async () => {
  vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
  folder = makeFolder("unlock");
  path = join(folder, "unlock.sock");
  received = [];
  const take = (pin: Buffer) => {
    received.push(String(pin));
    if (received.at(-1) === "refused") throw new KmsError("PIN_REFUSED", "the token refused the PIN");
    return Promise.resolve({ unlocked: true, message: "the token is logged in" });
  };
  problems = [];
  unlock = await startUnlock({
    path,
    maxPinBytes: MAX_PIN_BYTES,
    take: async (pin) => take(pin),
    observe: (problem) => problems.push(problem),
  });
});

afterEach(() => {
  vi.useRealTimers();
  unlock.stop();
  rmSync(folder, { recursive: true, force: true });
});

const send = async (pin: string | Buffer): Promise<unknown> => {
  const client = connect({ path, allowHalfOpen: true });
  client.end(pin);
  return JSON.parse(await text(client));
};
const LOGGED_IN = { unlocked: true, message: "the token is logged in" };

it("the unlock socket answers a PIN with its outcome, and admits only the plugin's user", async () => {
  expect(statSync(path).mode & 0o777).toBe(0o600);
  expect(await send("1234")).toEqual(LOGGED_IN);
  expect(await send("refused")).toEqual({ unlocked: false, message: "the token refused the PIN" });
  expect(received).toEqual(["1234", "refused"]);
});

it("the unlock socket disconnects a client that sends too many bytes, and serves the next", async () => {
  const flood = connect(path);
  flood.on("error", () => undefined);
  const closed = new Promise((resolve) => flood.once("close", resolve));
  flood.write(Buffer.alloc(MAX_PIN_BYTES + 1, "x"));
  await closed;
  expect(await send("x".repeat(MAX_PIN_BYTES))).toEqual(LOGGED_IN);
  expect(received).toEqual(["x".repeat(MAX_PIN_BYTES)]);
});

it("the unlock socket reports a removed file as a problem, and binds its socket again", async () => {
  expect(unlock.problem()).toBeUndefined();
  rmSync(path);
  expect(unlock.problem()).toMatch(/unlock\.sock is gone: no operator can submit a PIN/);
  await vi.advanceTimersByTimeAsync(2_000);
  await waitFor(() => statSync(path, { throwIfNoEntry: false }) !== undefined);
  expect(await send("1234")).toEqual(LOGGED_IN);
  await waitFor(() => problems.length === 2);
  expect(problems).toEqual([expect.stringContaining("unlock.sock is gone"), undefined]);
});

it("the unlock socket removes its file when it stops, and does not bind it again", async () => {
  unlock.stop();
  await vi.advanceTimersByTimeAsync(10_000);
  expect(statSync(path, { throwIfNoEntry: false })).toBeUndefined();
});
