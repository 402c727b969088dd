// What a node may claim about its past answers: after restarts, with clocks that jump, with an emptied state directory.

import { beforeEach, describe, expect, it } from "vitest";

import { KeyMemory } from "../../src/provider/key-memory.js";
import { SILENT } from "../support/fake-hsm.js";

const HOUR_MS = 3_600_000;
const START = Date.UTC(2026, 10, 21, 10);

/** How far the wall clock is ahead, and how long the machine has been up, in ms. */
let ahead: number;
let uptime: number;
let saved: unknown;
let full: boolean;
let memory: KeyMemory;

const now = (): number => START + uptime + ahead;

/** Starts the memory as a new process does. */
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
  it("the memory of a node begins with the first start and outlives a killed process", () => {
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

  it("the memory of a node begins again if its file is missing, damaged or of an old release", () => {
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

  it("the memory of a node is older than a key only if it saw the token without it", () => {
    expect(memory.isOlderThan("a")).toBe(false);
    memory.keysRead(() => ["a"]);
    memory.keysRead(() => ["a", "b"]);
    memory.close();
    start();
    memory.keysRead(() => ["a", "b", "c"]);
    expect(["a", "b", "c"].map((keyId) => memory.isOlderThan(keyId))).toEqual([false, true, true]);
  });

  it("the memory of a node is not older than a KEK that it saw under an earlier key_id", () => {
    const id = "0a".repeat(16);
    memory.keysRead(() => [`${id}.c${"1".repeat(32)}`]);
    expect([memory.isOlderThan(`${id}.n`), memory.isOlderThan(`${"0b".repeat(16)}.n`)]).toEqual([
      false,
      true,
    ]);
  });

  it("a node's memory begins later if a clock is set forward, no earlier if it is set back", () => {
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

  it("the memory of a node is not moved by a clock that is slewed", () => {
    for (let minute = 0; minute < 60; minute++) {
      [uptime, ahead] = [uptime + 60_000, ahead + 200];
      memory.statusAnswered("a");
    }
    expect(memory.since).toBe(START);
  });

  it("the memory of a node reports how long ago an answer was, whatever the clock did since", () => {
    publish("a");
    uptime += 60_000;
    ahead = HOUR_MS;
    expect(statusAt("a")).toBe(now() - 60_000);
    ahead = -HOUR_MS;
    expect(statusAt("a")).toBe(now() - 60_000);
  });

  it("a node's memory counts the last KEK as used until the restart, never in the future", () => {
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

  it("the memory of a node does not count a key_id as published that it could not record", () => {
    publish("a");
    full = true;
    expect(() => {
      publish("b");
    }).toThrow("no space");
    expect([memory.load()?.keyId, statusAt("b")]).toEqual(["a", undefined]);
    memory.close();
  });

  it("the memory of a node is bounded, and claims nothing about a forgotten time", () => {
    for (let index = 0; index < 300; index++) {
      uptime += 1_000;
      publish(`k${index}`);
    }
    expect(memory.answered()).toHaveLength(256);
    expect(memory.since).toBe(START + 44_000);
  });
});
