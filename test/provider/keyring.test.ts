// When the keyring reads the token, and what it reports about KEKs that it does not find.

import { beforeEach, describe, expect, it } from "vitest";

import { KmsError } from "../../src/errors.js";
import type { Generation } from "../../src/provider/generations.js";
import { Keyring } from "../../src/provider/keyring.js";
import { ReadingTurns } from "../../src/provider/reading-turns.js";
import { FakeHsm, SILENT } from "../support/fake-hsm.js";
import { codeOf } from "../support/faulty-token.js";
import { kekRecord } from "../support/kek-record.js";
import { waitFor } from "../support/wait.js";

let hsm: FakeHsm;
let gone: string[];
let keyring: Keyring;

const OPTIONS = {
  requestTimeoutMs: 2_000,
  policy: { objectName: "kms-kek", allowUnprotected: [] },
  log: SILENT,
};

const keyringWith = (requestTimeoutMs: number, now?: () => number): Keyring =>
  new Keyring({
    ...OPTIONS,
    hsm,
    requestTimeoutMs,
    ...(now && { now }),
    onRead: (_schedule, left: readonly Generation[]) => gone.push(...left.map(({ record }) => record.keyId)),
  });

beforeEach(() => {
  hsm = new FakeHsm();
  hsm.records = [kekRecord("kms-kek", "a")];
  gone = [];
  keyring = keyringWith(2_000);
});

describe("the keyring", () => {
  it("the keyring reads the token once for any number of unknown key_ids at the same time", async () => {
    await Promise.allSettled(Array.from({ length: 50 }, () => keyring.find("b")));
    expect(hsm.readings).toBe(1);
    const soon = Array.from({ length: 50 }, () => keyring.find("b"));
    await expect(soon[0]).rejects.toMatchObject({ code: "KEY_UNKNOWN" });
    await Promise.allSettled(soon);
    expect(hsm.readings).toBe(2);
  });

  it("the keyring reads the token only once for successive unknown key_ids if so configured", async () => {
    const once = new Keyring({ ...OPTIONS, hsm, readsOnce: true, onRead: () => undefined });
    for (const keyId of ["b", "c", "d"]) {
      await expect(once.find(keyId)).rejects.toMatchObject({ code: "KEY_UNKNOWN" });
    }
    expect((await once.find("a")).record.keyId).toBe("a");
    expect(hsm.readings).toBe(1);
  });

  it("the keyring finds a KEK by the key_id that it had earlier, without another reading", async () => {
    const [before, now] = [`${"0a".repeat(16)}.c${"1".repeat(32)}`, `${"0a".repeat(16)}.n`];
    hsm.records = [kekRecord("kms-kek", before)];
    await keyring.read();
    hsm.records = [kekRecord("kms-kek", now)];
    await keyring.read();
    const { readings } = hsm;
    expect((await keyring.find(before)).record.keyId).toBe(now);
    expect([hsm.readings, gone]).toEqual([readings, [before]]);
  });

  it("the keyring finds a key that was made a moment ago on another node", async () => {
    hsm.records = [kekRecord("kms-kek", "a"), kekRecord("kms-kek@20261121T100000Z", "b")];
    expect((await keyring.find("b")).record.keyId).toBe("b");
  });

  it("the keyring finds a key made since the last reading for another key_id, or during it", async () => {
    await keyring.find("c").catch(() => undefined);
    const late = keyring.find("b");
    const running = keyring.read();
    hsm.records = [kekRecord("kms-kek", "a"), kekRecord("kms-kek@20261121T100000Z", "b")];
    await running;
    expect((await late).record.keyId).toBe("b");
  });

  it("a reading that began after a request had arrived answers it when it is served", async () => {
    const arrivedAt = performance.now();
    await keyring.read();
    await expect(keyring.find("b", arrivedAt)).rejects.toMatchObject({ code: "KEY_UNKNOWN" });
    expect(hsm.readings).toBe(1);
    await expect(keyring.find("b", performance.now())).rejects.toMatchObject({ code: "KEY_UNKNOWN" });
    expect(hsm.readings).toBe(2);
  });

  it("the key_id of another cluster's KEK is unknown without a reading", async () => {
    const otherClusters = { turns: new ReadingTurns(), have: (keyId: string) => keyId === "b" };
    const one = new Keyring({ ...OPTIONS, hsm, otherClusters, onRead: () => undefined });
    await expect(one.find("b")).rejects.toMatchObject({ code: "KEY_UNKNOWN" });
    expect(hsm.readings).toBe(0);
    expect((await one.find("a")).record.keyId).toBe("a");
  });

  it("the keyring reports that the HSM is away rather than that the key is unknown", async () => {
    hsm.failure = new KmsError("HSM_UNAVAILABLE", "away");
    await expect(keyring.find("b")).rejects.toMatchObject({ code: "HSM_UNAVAILABLE" });
  });

  it("the keyring lets a request wait for a reading no longer than its timeout", async () => {
    const hasty = keyringWith(10);
    let answer: (records: []) => void = () => undefined;
    hsm.listKeks = () => new Promise((resolve) => (answer = resolve));
    await expect(hasty.find("b")).rejects.toMatchObject({ code: "DEADLINE" });
    const running = hasty.read();
    answer([]);
    await expect(running).resolves.toMatchObject({ generations: [] });
  });

  it("the keyring reports a key as gone only if two readings agree", async () => {
    await keyring.read();
    const records = hsm.records;
    const list = hsm.listKeks.bind(hsm);
    let first = true;
    hsm.listKeks = () => {
      hsm.records = first ? [] : records;
      first = false;
      return list();
    };
    await keyring.read();
    expect(gone).toEqual([]);
    hsm.listKeks = list;
    hsm.records = [];
    await keyring.read();
    expect(gone).toEqual(["a"]);
  });

  it("the keyring logs the loss of the active KEK as an error, of another as a warning", async () => {
    const lines: string[] = [];
    const line = (level: string) => (fields: object, text: string) => {
      if (/token/.test(text)) lines.push(`${level} ${JSON.stringify(fields)}: ${text}`);
    };
    const log = { ...SILENT, warn: line("warn"), error: line("error") };
    hsm.records = [kekRecord("kms-kek@20261121T100000Z", "b"), kekRecord("kms-kek", "a")];
    const watched = new Keyring({ ...OPTIONS, hsm, log, inUse: () => "a", onRead: () => undefined });
    await watched.read();
    hsm.records = [];
    await watched.read();
    expect(lines).toEqual([
      expect.stringMatching(/^warn .*"b".*: a KEK that is not active is no longer on the token$/),
      expect.stringMatching(/^error .*"a".*: the active KEK is gone from the token$/),
    ]);
  });

  it("the keyring shows a client's key_id in an error shortened and without control characters", async () => {
    const error = await keyring.find(`\u0000\n${"x".repeat(900)}`).catch((thrown: unknown) => thrown);
    expect((error as Error).message).toMatch(/"\?\?x+\.\.\."/);
    expect((error as Error).message.length).toBeLessThan(200);
  });
});

describe("a token whose reading takes longer than a request may wait", () => {
  const READING_MS = 1_000;
  /** The readings in progress, each of which ends when the test calls its function. */
  let ends: (() => void)[];
  let clock: number;

  beforeEach(() => {
    ends = [];
    clock = 0;
    keyring = keyringWith(20, () => clock);
    const list = hsm.listKeks.bind(hsm);
    hsm.listKeks = async () => {
      const records = await list();
      await new Promise<void>((resolve) => ends.push(resolve));
      return records;
    };
  });

  /** Ends the reading in progress, and waits for its consequences. */
  const endReading = async (): Promise<void> => {
    await waitFor(() => ends.length > 0, { what: "a reading", intervalMs: 1 });
    clock += READING_MS;
    ends.shift()?.();
    await new Promise((resolve) => setImmediate(resolve));
  };
  const ask = (keyId: string): Promise<string> => codeOf(keyring.find(keyId));

  it("a slowly read token ends a request by DEADLINE, and the next needs no other reading", async () => {
    expect(await ask("b")).toBe("DEADLINE");
    await endReading();
    expect(await ask("b")).toBe("KEY_UNKNOWN");
    expect(hsm.readings).toBe(1);
  });

  it("a slowly read token says nothing about a key_id first requested during the reading", async () => {
    expect(await ask("b")).toBe("DEADLINE");
    clock++;
    expect(await ask("c")).toBe("DEADLINE");
    await endReading();
    expect(await ask("c")).toBe("DEADLINE");
    const running = keyring.read();
    await endReading();
    await running;
    expect(await ask("c")).toBe("KEY_UNKNOWN");
  });

  it("a slowly read token still shows keys that were made since", async () => {
    expect(await ask("b")).toBe("DEADLINE");
    await endReading();
    hsm.records = [kekRecord("kms-kek", "a"), kekRecord("kms-kek@20261121T100000Z", "b")];
    const running = keyring.read();
    await endReading();
    await running;
    expect(await ask("b")).toBe("done");
  });

  it("a slowly read token is read rarely for a key_id that is requested again and again", async () => {
    expect(await ask("b")).toBe("DEADLINE");
    await endReading();
    for (let times = 0; times < 10; times++) expect(await ask("b")).toBe("KEY_UNKNOWN");
    expect(hsm.readings).toBe(1);
    clock += 2 * READING_MS;
    for (let times = 0; times < 3; times++) expect(await ask("b")).toBe("KEY_UNKNOWN");
    expect(hsm.readings).toBe(2);
    await endReading();
  });

  it("the keyring remembers a bounded number of missing key_ids", async () => {
    const asked = Array.from({ length: 1_200 }, (_, at) => `unknown-${at}`);
    expect(new Set(await Promise.all(asked.map(ask)))).toEqual(new Set(["DEADLINE"]));
    await endReading();
    expect(await ask("unknown-1199")).toBe("KEY_UNKNOWN");
    expect(await ask("unknown-0")).toBe("DEADLINE");
  });
});
