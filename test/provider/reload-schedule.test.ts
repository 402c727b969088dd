// When libraries are loaded anew although nothing seems gone, and what the keyring makes of it.

import { expect, it } from "vitest";

import { KmsError } from "../../src/errors.js";
import { Keyring } from "../../src/provider/keyring.js";
import { labelOf } from "../../src/provider/kek-label.js";
import { ReloadSchedule } from "../../src/provider/reload-schedule.js";
import { FakeHsm, SILENT } from "../support/fake-hsm.js";
import { kekRecord } from "../support/kek-record.js";

const START = Date.UTC(2026, 10, 21, 12);

/** A token whose library, until it is loaded anew, shows what was there when it was loaded. */
class LoadTimeHsm extends FakeHsm {
  loads = 0;
  store: FakeHsm["records"] = [];

  /** Passes the time that a reload takes. */
  whileLoading: () => void = () => undefined;

  override listKeksReloaded(): ReturnType<FakeHsm["listKeks"]> {
    this.loads++;
    this.whileLoading();
    this.records = this.store;
    return this.listKeks();
  }
}

function keyringOf(hsm: FakeHsm, clock: { ms: number }, everyMs: number | undefined): Keyring {
  return new Keyring({
    hsm,
    requestTimeoutMs: 2_000,
    policy: { objectName: "kms-kek", allowUnprotected: [] },
    log: SILENT,
    onRead: () => undefined,
    now: () => clock.ms,
    reloads: new ReloadSchedule({ everyMs, wallNow: () => START + clock.ms, now: () => clock.ms }),
  });
}

it("a KEK that was destroyed is noticed at its instant, by a library that has been loaded since", async () => {
  const clock = { ms: 0 };
  const hsm = new LoadTimeHsm();
  const active = kekRecord("kms-kek", "a");
  hsm.records = [active, kekRecord(labelOf("kms-kek", START + 60_000), "b")];
  hsm.store = [active];
  const keyring = keyringOf(hsm, clock, undefined);
  for (clock.ms = 0; clock.ms < 60_000; clock.ms += 20_000) await keyring.read();
  expect([hsm.loads, keyring.known("b")?.record.keyId]).toEqual([0, "b"]);
  await keyring.read();
  expect([hsm.loads, keyring.known("b")]).toEqual([1, undefined]);
  clock.ms = 3_600_000;
  await keyring.read();
  expect(hsm.loads).toBe(1);
});

it("one that was destroyed at another time is noticed by the interval, and a reload that fails ends nothing", async () => {
  const clock = { ms: 0 };
  const hsm = new LoadTimeHsm();
  hsm.records = hsm.store = [kekRecord("kms-kek", "a")];
  const keyring = keyringOf(hsm, clock, 600_000);
  await keyring.read();
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

it("a slow reload does not pass for a slow token: an unknown key_id is looked for as before", async () => {
  const clock = { ms: 0 };
  const hsm = new LoadTimeHsm();
  hsm.records = hsm.store = [kekRecord("kms-kek", "a")];
  hsm.whileLoading = () => (clock.ms += 30_000);
  const keyring = keyringOf(hsm, clock, 600_000);
  await keyring.find("b").catch(() => undefined);
  clock.ms = 600_000;
  await keyring.read();
  expect(hsm.loads).toBe(1);
  hsm.records = [...hsm.records, kekRecord("kms-kek@20261121T100000Z", "b")];
  expect((await keyring.find("b")).record.keyId).toBe("b");
});
