// When a token host gets further lanes, and which lane serves a request. The lanes answer at once; nothing is started.

import { afterEach, beforeEach, expect, it, vi } from "vitest";

import type { LaneClient, Reply } from "../../../src/hsm/hosts/lane-client.js";
import { LaneGrowth } from "../../../src/hsm/hosts/lane-growth.js";
import { LaneSet } from "../../../src/hsm/hosts/lane-set.js";
import { encodeControlReply } from "../../../src/hsm/wire.js";
import { Op, type WireFailure } from "../../../src/hsm/wire-calls.js";
import { SILENT } from "../../support/fake-hsm.js";
import { tokenDescription } from "../../support/token-description.js";

const OPEN = { modulePath: "/lib.so", token: {}, objectName: "kms-kek" };
const SESSIONS = 16;
const SLOW_MS = 2;
const TOKEN = tokenDescription({ loggedIn: true });
const NO_SESSION: WireFailure = { code: "HSM_UNAVAILABLE", message: "CKR_SESSION_COUNT", fault: "device" };

class FakeLane {
  readonly #host: FakeHost;
  load = 0;
  readonly serviceMs = 0;
  readonly busyWithControl = false;

  constructor(host: FakeHost) {
    this.#host = host;
  }

  send(_build: unknown, done: (reply: Reply) => void): void {
    this.#host.attempts++;
    done(
      this.#host.refuses
        ? { ok: false, failure: NO_SESSION }
        : { ok: true, body: encodeControlReply(Op.open, TOKEN) },
    );
  }
}

class FakeHost {
  readonly alive = true;
  readonly lanes = new LaneSet();
  readonly all: FakeLane[] = [];
  prepared = 0;
  ended = 0;
  /** Number of lanes that were tried, and whether the token refuses them. */
  attempts = 0;
  refuses = false;
  readonly growth = new LaneGrowth(this, OPEN, SESSIONS, SILENT);

  constructor() {
    this.lanes.add(this.startLane());
    this.lanes.noteOperation(SLOW_MS);
  }

  kill(): void {
    throw new Error("not expected");
  }

  startLane(): LaneClient {
    const lane = new FakeLane(this);
    this.all.push(lane);
    return lane as unknown as LaneClient;
  }

  prepareLanes(count: number): void {
    this.prepared += count;
  }

  endLane(): Promise<void> {
    this.ended++;
    return Promise.resolve();
  }

  /** Opens as many lanes as are allowed now, and returns their number. */
  async grow(): Promise<number> {
    for (let more = 0; more < SESSIONS; more++) {
      this.growth.grow({ limitMs: 1_000, login: () => Promise.resolve(), onOpened: () => undefined });
      await new Promise((resolve) => setImmediate(resolve));
    }
    return this.lanes.length;
  }
}

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["performance"] });
});

afterEach(() => {
  vi.useRealTimers();
});

it("half of a slow token's lanes are opened in advance, the others after requests have waited", async () => {
  const host = new FakeHost();
  host.growth.begin(TOKEN);
  expect(await host.grow()).toBe(8);
  for (let waitedMs = 0; waitedMs < 1_000; waitedMs += 200) {
    expect(host.growth.noteWaiting(1)).toBe(true);
    expect(await host.grow()).toBe(8);
    vi.advanceTimersByTime(200);
  }
  host.growth.noteWaiting(1);
  expect(await host.grow()).toBe(SESSIONS);
});

it("a pause in which no request waits begins the wait again", async () => {
  const host = new FakeHost();
  host.growth.begin(TOKEN);
  host.growth.noteWaiting(1);
  vi.advanceTimersByTime(900);
  expect(host.growth.noteWaiting(0)).toBe(false);
  host.growth.noteWaiting(1);
  vi.advanceTimersByTime(200);
  host.growth.noteWaiting(1);
  expect(await host.grow()).toBe(8);
});

it("lanes end when no request has waited for five minutes, and open again when one waits", async () => {
  const host = new FakeHost();
  host.growth.begin(TOKEN);
  await host.grow();
  vi.advanceTimersByTime(5 * 60_000);
  host.growth.shrink(1_000);
  expect(host.ended).toBe(0);
  vi.advanceTimersByTime(1);
  const [first, second] = host.all;
  for (const lane of host.all.slice(2, 4)) lane.load = 1;
  host.growth.shrink(1_000);
  expect([host.ended, host.lanes.length]).toEqual([5, 3]);
  for (const lane of host.all) lane.load = 0;
  host.growth.shrink(1_000);
  expect(host.lanes.open).toEqual([first, second]);
  expect(await host.grow()).toBe(2);
  host.growth.noteWaiting(1);
  expect(await host.grow()).toBe(8);
});

it("a lane that cannot be opened is tried again after a pause that doubles up to five minutes", async () => {
  const host = new FakeHost();
  host.growth.begin(TOKEN);
  host.refuses = true;
  for (let pauseMs = 1_000; pauseMs < 600_000; pauseMs *= 2) {
    const before = host.attempts;
    host.growth.noteWaiting(1);
    expect(await host.grow()).toBe(1);
    expect(host.attempts - before).toBe(1);
    expect(host.ended).toBe(host.attempts);
    vi.advanceTimersByTime(Math.min(pauseMs, 300_000) - 1);
    expect(await host.grow()).toBe(1);
    expect(host.attempts - before).toBe(1);
    vi.advanceTimersByTime(1);
  }
  host.refuses = false;
  host.growth.noteWaiting(1);
  expect(await host.grow()).toBe(8);
});

it("a lane whose login was refused serves again after a minute, or when a login succeeds", () => {
  const host = new FakeHost();
  host.lanes.add(host.startLane());
  const [first, second] = host.lanes.open;
  if (first === undefined || second === undefined) throw new TypeError("two lanes");
  for (const readmit of [
    () => vi.advanceTimersByTime(60_000),
    () => {
      host.lanes.readmit();
    },
  ]) {
    expect(host.lanes.refuse(second)).toBe(first);
    vi.advanceTimersByTime(59_999);
    expect(host.lanes.open).toEqual([first]);
    expect(host.lanes.refuse(first)).toBeUndefined();
    readmit();
    expect(host.lanes.open).toEqual([first, second]);
  }
});

it("a request in a lane waits if an earlier one keeps the lane busy", () => {
  const host = new FakeHost();
  for (const [load, waits] of [
    [1, false],
    [2, true],
  ] as const) {
    for (const lane of host.all) lane.load = load;
    expect(host.growth.noteWaiting(0)).toBe(waits);
  }
});

it.each([
  { callMs: 2, threads: 7 },
  { callMs: 0.01, threads: 0 },
])("threads are prepared only if the token seems slow: $callMs ms a call", ({ callMs, threads }) => {
  const host = new FakeHost();
  host.growth.begin({ ...TOKEN, callMs });
  host.growth.prepare();
  expect(host.prepared).toBe(threads);
});

it("a slow token's lanes get a second request when none is idle, and no third", () => {
  const host = new FakeHost();
  host.lanes.add(host.startLane());
  const taken = Array.from({ length: 5 }, () => {
    const lane = host.lanes.pick() as unknown as FakeLane | undefined;
    if (lane !== undefined) lane.load++;
    return lane;
  });
  expect(host.all.map(({ load }) => load)).toEqual([2, 2]);
  expect(taken[4]).toBeUndefined();
});
