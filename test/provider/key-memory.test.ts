// What a node may say that it remembers: over restarts, with clocks that jump, and with a state directory that was emptied.

import { beforeEach, describe, expect, it } from "vitest";

import { KeyMemory } from "../../src/provider/key-memory.js";
import { SILENT } from "../support/fake-hsm.js";

const HOUR_MS = 3_600_000;
const START = Date.UTC(2026, 10, 21, 10);

/** As a machine has it: what the clock says, and how long it has been up. */
let ahead: number;
let uptime: number;
let saved: unknown;
let full: boolean;
let memory: KeyMemory;

const now = (): number => START + uptime + ahead;

/** A process that starts. */
function start(): void {
  const store = {
    load: () => saved,
    save: (document: object) => {
      if (full) throw new Error("no space");
      saved = JSON.parse(JSON.stringify(document));
    },
  };
  memory = new KeyMemory({ store, log: SILENT, now, uptime: () => uptime });
}

const publish = (keyId: string): void => {
  memory.save({ keyId, activation: null });
};
const statusAt = (keyId: string): number | null | undefined =>
  memory.answered().find((one) => one.keyId === keyId)?.statusAt;

beforeEach(() => {
  [ahead, uptime, saved, full] = [0, 0, undefined, false];
  start();
});

describe("the memory of a node", () => {
  it("begins with the first start, and outlives the process, also one that was killed", () => {
    memory.keysRead(() => ["a"]);
    publish("a");
    uptime += HOUR_MS;
    start();
    expect([memory.since, memory.load()]).toEqual([START, { keyId: "a", activation: null }]);
    publish("b");
    memory.encryptAnswered("b");
    start();
    expect(memory.answered()).toMatchObject([{ keyId: "a" }, { keyId: "b", statusAt: now() }]);
  });

  it("begins anew where the state directory was emptied, is damaged, or is an earlier release's", () => {
    memory.keysRead(() => ["a"]);
    publish("a");
    for (const found of [
      undefined,
      7,
      "{",
      { keyId: "a", activation: 5 },
      { version: 2, keyId: "a", activation: 5 },
    ]) {
      uptime += HOUR_MS;
      saved = found;
      start();
      expect([memory.since, memory.answered(), memory.isOlderThan("b")]).toEqual([now(), [], false]);
    }
    expect(memory.load()).toEqual({ keyId: "a", activation: 5 });
  });

  it("is older than a key only if it saw the token without it", () => {
    expect(memory.isOlderThan("a")).toBe(false);
    memory.keysRead(() => ["a"]);
    memory.keysRead(() => ["a", "b"]);
    start();
    memory.keysRead(() => ["a", "b", "c"]);
    expect(["a", "b", "c"].map((keyId) => memory.isOlderThan(keyId))).toEqual([false, true, true]);
  });

  it("begins later where the clock was behind and is put forward, and no earlier where it was ahead", () => {
    ahead = -HOUR_MS;
    start();
    uptime += 5_000;
    ahead = 0;
    expect(memory.since).toBe(START);
    memory.statusAnswered("a");
    ahead = -HOUR_MS;
    expect(memory.since).toBe(START);
    start();
    expect(memory.since).toBe(START);
  });

  it("is not moved by a clock that is slewed", () => {
    for (let minute = 0; minute < 60; minute++) {
      [uptime, ahead] = [uptime + 60_000, ahead + 200];
      memory.statusAnswered("a");
    }
    expect(memory.since).toBe(START);
  });

  it("tells how long ago an answer was, whatever the clock did since", () => {
    publish("a");
    uptime += 60_000;
    ahead = HOUR_MS;
    expect(statusAt("a")).toBe(now() - 60_000);
    ahead = -HOUR_MS;
    expect(statusAt("a")).toBe(now() - 60_000);
  });

  it("takes the KEK published last for used until the restart, and no answer for one of the future", () => {
    publish("a");
    uptime += 60_000;
    ahead = HOUR_MS;
    publish("b");
    memory.close();
    uptime += 60_000;
    start();
    expect([statusAt("a"), statusAt("b")]).toEqual([now() - 120_000, now()]);
    ahead = 0;
    start();
    expect([statusAt("a"), statusAt("b")]).toEqual([now(), now()]);
  });

  it("does not take a key_id for published that it could not record", () => {
    publish("a");
    full = true;
    expect(() => {
      publish("b");
    }).toThrow("no space");
    expect([memory.load()?.keyId, statusAt("b")]).toEqual(["a", undefined]);
    memory.close();
  });

  it("is bounded, and claims nothing of a time that it has forgotten", () => {
    for (let index = 0; index < 300; index++) {
      uptime += 1_000;
      publish(`k${index}`);
    }
    expect(memory.answered()).toHaveLength(256);
    expect(memory.since).toBe(START + 44_000);
  });
});
