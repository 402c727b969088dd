// When libraries are reloaded although no KEK seems gone, and what the keyring learns from it.

import { expect, it } from "vitest";

import { KmsError } from "../../src/errors.js";
import { Keyring } from "../../src/provider/keyring.js";
import { labelOf } from "../../src/provider/kek-label.js";
import { ReloadSchedule, type ReloadIntervals } from "../../src/provider/reload-schedule.js";
import { FakeHsm, SILENT } from "../support/fake-hsm.js";
import { kekRecord } from "../support/kek-record.js";

const START = Date.UTC(2026, 10, 21, 12);
const INTERVALS = { oftenMs: 60_000, untilKnownMs: 600_000, rarelyMs: 1_800_000 };

/** A token whose library shows the keys that existed when it was loaded, until it is reloaded. */
class LoadTimeHsm extends FakeHsm {
  loads = 0;
  store: FakeHsm["records"] = [];

  /** Advances the clock by the time that a reload takes. */
  whileLoading: () => void = () => undefined;

  override listKeksReloaded(): ReturnType<FakeHsm["listKeks"]> {
    this.loads++;
    this.whileLoading();
    this.records = this.store;
    return this.listKeks();
  }
}

function keyringOf(hsm: FakeHsm, clock: { ms: number }, intervals: ReloadIntervals | undefined): Keyring {
  return new Keyring({
    hsm,
    requestTimeoutMs: 2_000,
    policy: { objectName: "kms-kek", allowUnprotected: [] },
    log: SILENT,
    onRead: () => undefined,
    now: () => clock.ms,
    reloads: new ReloadSchedule({ intervals, wallNow: () => START + clock.ms, now: () => clock.ms }),
  });
}

/** Returns a library and a keyring that has been read once and shows one KEK, "a". */
async function readOnce() {
  const clock = { ms: 0 };
  const hsm = new LoadTimeHsm();
  hsm.records = hsm.store = [kekRecord("kms-kek", "a")];
  const keyring = keyringOf(hsm, clock, INTERVALS);
  await keyring.read();
  return { clock, hsm, keyring };
}

/** Returns a library that still shows "b", the standby KEK of the next minute, which was destroyed; reloads for it only. */
function standbyDestroyed() {
  const clock = { ms: 0 };
  const hsm = new LoadTimeHsm();
  const active = kekRecord("kms-kek", "a");
  hsm.records = [active, kekRecord(labelOf("kms-kek", START + 60_000), "b")];
  hsm.store = [active];
  const keyring = keyringOf(hsm, clock, undefined);
  return { clock, hsm, active, keyring };
}

it("a reload at its activation shows that a standby KEK was destroyed", async () => {
  const { clock, hsm, keyring } = standbyDestroyed();
  for (clock.ms = 0; clock.ms < 60_000; clock.ms += 20_000) await keyring.read();
  expect([hsm.loads, keyring.known("b")?.record.keyId]).toEqual([0, "b"]);
  await keyring.read();
  expect([hsm.loads, keyring.known("b")]).toEqual([1, undefined]);
  clock.ms = 3_600_000;
  await keyring.read();
  expect(hsm.loads).toBe(1);
});

it("a failed reload at an activation is an error, and is repeated until one succeeds", async () => {
  const { clock, hsm, active, keyring } = standbyDestroyed();
  await keyring.read();
  const readAt = keyring.readAt;
  const list = hsm.listKeksReloaded.bind(hsm);
  hsm.listKeksReloaded = () => Promise.reject(new KmsError("HSM_UNAVAILABLE", "no host can be started"));
  clock.ms = 60_000;
  await keyring.read();
  expect([keyring.error?.message, keyring.readAt]).toEqual(["no host can be started", readAt]);
  hsm.records = [...hsm.records, kekRecord("kms-kek@20261121T100000Z", "c")];
  clock.ms = 80_000;
  expect((await keyring.find("c")).record.keyId).toBe("c");
  expect(keyring.error?.message).toBe("no host can be started");
  hsm.listKeksReloaded = list;
  hsm.store = [active, kekRecord("kms-kek@20261121T100000Z", "c")];
  clock.ms = 100_000;
  await keyring.read();
  expect([hsm.loads, keyring.error, keyring.known("b")]).toEqual([1, undefined, undefined]);
  clock.ms = 3_600_000;
  await keyring.read();
  expect(hsm.loads).toBe(1);
});

it("a destroyed KEK disappears at the next reload that succeeds, not before", async () => {
  const { clock, hsm, keyring } = await readOnce();
  hsm.store = [];
  clock.ms = 599_999;
  await keyring.read();
  expect(hsm.loads).toBe(0);
  const list = hsm.listKeksReloaded.bind(hsm);
  hsm.listKeksReloaded = () => Promise.reject(new KmsError("HSM_UNAVAILABLE", "no host can be started"));
  clock.ms = 600_000;
  await keyring.read();
  expect([keyring.error, keyring.known("a")?.record.keyId]).toEqual([undefined, "a"]);
  hsm.listKeksReloaded = list;
  await keyring.read();
  expect(hsm.loads).toBe(0);
  clock.ms = 1_200_000;
  await keyring.read();
  expect([hsm.loads, keyring.known("a")]).toEqual([1, undefined]);
});

it("a slow reload does not count as a slow token: unknown key_ids are still looked up", async () => {
  const clock = { ms: 0 };
  const hsm = new LoadTimeHsm();
  hsm.records = hsm.store = [kekRecord("kms-kek", "a")];
  hsm.whileLoading = () => (clock.ms += 30_000);
  const keyring = keyringOf(hsm, clock, INTERVALS);
  await keyring.find("b").catch(() => undefined);
  clock.ms = 600_000;
  await keyring.read();
  expect(hsm.loads).toBe(1);
  hsm.records = [...hsm.records, kekRecord("kms-kek@20261121T100000Z", "b")];
  expect((await keyring.find("b")).record.keyId).toBe("b");
});

/** Reads every 20 s for this long. */
async function readFor(keyring: Keyring, clock: { ms: number }, ms: number): Promise<void> {
  for (const end = clock.ms + ms; clock.ms < end;) {
    clock.ms += 20_000;
    await keyring.read();
  }
}

it("a library that showed a change only after a reload is reloaded at every refresh interval", async () => {
  const { clock, hsm, keyring } = await readOnce();
  hsm.store = [kekRecord("kms-kek", "a"), kekRecord("kms-kek@20261121T100000Z", "b")];
  await readFor(keyring, clock, 580_000);
  expect([hsm.loads, keyring.known("b")]).toEqual([0, undefined]);
  await readFor(keyring, clock, 20_000);
  expect([hsm.loads, keyring.known("b")?.record.keyId]).toEqual([1, "b"]);
  hsm.store = [...hsm.store, kekRecord("kms-kek@20261121T110000Z", "c")];
  await readFor(keyring, clock, 60_000);
  expect(keyring.known("c")?.record.keyId).toBe("c");
  hsm.store = hsm.store.filter(({ keyId }) => keyId !== "b");
  await readFor(keyring, clock, 60_000);
  expect([hsm.loads, keyring.known("b")]).toEqual([3, undefined]);
});

it("a library that has shown a change without a reload is reloaded rarely", async () => {
  const { clock, hsm, keyring } = await readOnce();
  await readFor(keyring, clock, 580_000);
  hsm.records = hsm.store = [...hsm.store, kekRecord("kms-kek@20261121T100000Z", "b")];
  await readFor(keyring, clock, 20_000);
  expect(hsm.loads).toBe(1);
  await readFor(keyring, clock, 1_780_000);
  expect(hsm.loads).toBe(1);
  await readFor(keyring, clock, 20_000);
  expect(hsm.loads).toBe(2);
});

it("a slowly loading library is reloaded less often until a change has shown its kind", async () => {
  const clock = { ms: 0 };
  const hsm = new LoadTimeHsm();
  hsm.records = hsm.store = [kekRecord("kms-kek", "a")];
  hsm.whileLoading = () => (clock.ms += 60_000);
  const keyring = keyringOf(hsm, clock, INTERVALS);
  await keyring.read();
  await readFor(keyring, clock, 600_000);
  expect(hsm.loads).toBe(1);
  clock.ms = 1_780_000;
  await readFor(keyring, clock, 20_000);
  expect(hsm.loads).toBe(2);
});

it("a KEK made during a reload does not count against the library for long", async () => {
  const { clock, hsm, keyring } = await readOnce();
  hsm.whileLoading = () => {
    hsm.store = [...hsm.store, kekRecord("kms-kek@20261121T100000Z", "b")];
    hsm.whileLoading = () => undefined;
  };
  await readFor(keyring, clock, 660_000);
  expect(hsm.loads).toBe(2);
  clock.ms += 40_000;
  hsm.records = hsm.store = hsm.store.filter(({ keyId }) => keyId !== "b");
  await readFor(keyring, clock, 20_000);
  expect([hsm.loads, keyring.known("b")]).toEqual([3, undefined]);
  await readFor(keyring, clock, 580_000);
  expect(hsm.loads).toBe(3);
});

it("a library whose token was away is not taken for one that needs reloads", async () => {
  const { clock, hsm, keyring } = await readOnce();
  clock.ms = 600_000;
  hsm.records = [];
  await keyring.read();
  await readFor(keyring, clock, 580_000);
  expect([hsm.loads, keyring.known("a")?.record.keyId]).toEqual([1, "a"]);
});

it("a slow reload is not repeated before five times its duration has passed", async () => {
  const clock = { ms: 0 };
  const hsm = new LoadTimeHsm();
  hsm.records = hsm.store = [kekRecord("kms-kek", "a")];
  hsm.whileLoading = () => (clock.ms += 30_000);
  const keyring = keyringOf(hsm, clock, INTERVALS);
  await keyring.read();
  hsm.store = [...hsm.store, kekRecord("kms-kek@20261121T100000Z", "b")];
  clock.ms = 600_000;
  await keyring.read();
  clock.ms = 740_000;
  await keyring.read();
  expect(hsm.loads).toBe(1);
  clock.ms = 750_000;
  await keyring.read();
  expect(hsm.loads).toBe(2);
});
