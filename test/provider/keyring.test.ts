import { beforeEach, describe, expect, it } from "vitest";

import { KmsError } from "../../src/errors.js";
import type { Generation } from "../../src/provider/generations.js";
import { Keyring } from "../../src/provider/keyring.js";
import { FakeHsm, SILENT } from "../support/fake-hsm.js";
import { kekRecord } from "../support/kek-record.js";

let hsm: FakeHsm;
let gone: string[];
let keyring: Keyring;

const OPTIONS = {
  requestTimeoutMs: 2_000,
  policy: { objectName: "kms-kek", allowUnprotected: [] },
  log: SILENT,
};

const keyringWith = (requestTimeoutMs: number): Keyring =>
  new Keyring({
    ...OPTIONS,
    hsm,
    requestTimeoutMs,
    onRead: (_schedule, left: readonly Generation[]) => gone.push(...left.map(({ record }) => record.keyId)),
  });

beforeEach(() => {
  hsm = new FakeHsm();
  hsm.records = [kekRecord("kms-kek", "a")];
  gone = [];
  keyring = keyringWith(2_000);
});

describe("the keyring", () => {
  it("reads the token once for any number of unknown key_ids at the same time", async () => {
    await Promise.allSettled(Array.from({ length: 50 }, () => keyring.find("b")));
    expect(hsm.readings).toBe(1);
    const soon = Array.from({ length: 50 }, () => keyring.find("b"));
    await expect(soon[0]).rejects.toMatchObject({ code: "KEY_UNKNOWN" });
    await Promise.allSettled(soon);
    expect(hsm.readings).toBe(2);
  });

  it("that is read once tells any number of unknown key_ids one after another, without another reading", async () => {
    const once = new Keyring({ ...OPTIONS, hsm, readsOnce: true, onRead: () => undefined });
    for (const keyId of ["b", "c", "d"])
      await expect(once.find(keyId)).rejects.toMatchObject({ code: "KEY_UNKNOWN" });
    expect((await once.find("a")).record.keyId).toBe("a");
    expect(hsm.readings).toBe(1);
  });

  it("finds a key that was made a moment ago on another node", async () => {
    hsm.records = [kekRecord("kms-kek", "a"), kekRecord("kms-kek@20261121T100000Z", "b")];
    expect((await keyring.find("b")).record.keyId).toBe("b");
  });

  it("finds a key that was made since the last reading for another, or while one runs", async () => {
    await keyring.find("c").catch(() => undefined);
    const late = keyring.find("b");
    const running = keyring.read();
    hsm.records = [kekRecord("kms-kek", "a"), kekRecord("kms-kek@20261121T100000Z", "b")];
    await running;
    expect((await late).record.keyId).toBe("b");
  });

  it("says that the HSM is away, not that the key is unknown", async () => {
    hsm.failure = new KmsError("HSM_UNAVAILABLE", "away");
    await expect(keyring.find("b")).rejects.toMatchObject({ code: "HSM_UNAVAILABLE" });
  });

  it("lets a request wait for a reading no longer than its timeout", async () => {
    const hasty = keyringWith(10);
    let answer: (records: []) => void = () => undefined;
    hsm.listKeks = () => new Promise((resolve) => (answer = resolve));
    await expect(hasty.find("b")).rejects.toMatchObject({ code: "DEADLINE" });
    const running = hasty.read();
    answer([]);
    await expect(running).resolves.toMatchObject({ generations: [] });
  });

  it("believes that a key is gone only when two readings agree", async () => {
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

  it("shows a client's key_id in an error without its control characters, and not at any length", async () => {
    const error = await keyring.find(`\u0000\n${"x".repeat(900)}`).catch((thrown: unknown) => thrown);
    expect((error as Error).message).toMatch(/"\?\?x+\.\.\."/);
    expect((error as Error).message.length).toBeLessThan(200);
  });
});
