// Activation instants in labels, and the schedule that follows from them.

import fc from "fast-check";
import { describe, expect, it } from "vitest";

import { PUBLIC_KEY, type KekRecord } from "../../src/hsm/port.js";
import {
  activeAt,
  findByKeyId,
  findForDecrypt,
  readSchedule,
  stateOf,
  type SchedulePolicy,
} from "../../src/provider/generations.js";
import { formatInstant, labelOf, parseInstant, parseTime } from "../../src/provider/kek-label.js";
import { planRotation } from "../../src/provider/rotation.js";
import { kekRecord } from "../support/kek-record.js";

const POLICY = { objectName: "kms-kek", allowUnprotected: [] };
/** A key_id that proves the key's value. */
const VALUE = `0a.s${"0".repeat(32)}`;
const allowing = (...allowUnprotected: string[]): SchedulePolicy => ({ ...POLICY, allowUnprotected });
const unprotected = (record: KekRecord, why: string): KekRecord => ({ ...record, unprotected: [why] });
const at = (second: number): number => Date.UTC(2026, 10, 21, 10, 0, second);
const generation = (second: number, keyId = `k${second}`) => kekRecord(labelOf("kms-kek", at(second)), keyId);
const instants = fc
  .date({ min: new Date(0), max: new Date("9999-12-31T23:59:59Z"), noInvalidDate: true })
  .map((date) => Math.floor(date.getTime() / 1000) * 1000);

describe("activation instants", () => {
  it("activation instants are read back as they were written", () => {
    fc.assert(fc.property(instants, (instant) => parseInstant(formatInstant(instant)) === instant));
  });

  it.each([
    "",
    "20261121",
    "20261121T100000",
    "20261321T100000Z",
    "20260230T000000Z",
    "2026-11-21T10:00:00Z",
  ])("activation instants of another form are refused: %j", (text) => {
    expect(parseInstant(text)).toBeUndefined();
  });

  it("activation instants are accepted from operators only with a zone, and only if they exist", () => {
    expect(parseTime("2028-02-29T23:59:30+01:00")).toBe(Date.UTC(2028, 1, 29, 22, 59, 30));
    expect(parseTime("2026-12-01T10:00Z")).toBe(Date.UTC(2026, 11, 1, 10));
    const impossible = ["2027-02-29", "2027-02-30", "2027-04-31", "2027-13-01", "2027-00-01", "2027-01-00"];
    for (const date of impossible) {
      expect(parseTime(`${date}T00:00:00Z`)).toBeUndefined();
      expect(parseInstant(`${date.replaceAll("-", "")}T000000Z`)).toBeUndefined();
    }
    for (const text of [
      "2027-01-01T24:00:00Z",
      "2027-01-01T23:60:00Z",
      "2027-01-01T00:00:00",
      "2027-01-01",
      "Z",
    ]) {
      expect(parseTime(text)).toBeUndefined();
    }
  });
});

describe("the generation that decrypts", () => {
  const id = "0a".repeat(16);
  const named = (method: string, digit: string): string => `${id}.${method}${digit.repeat(32)}`;
  const found = (keyId: string, ...records: KekRecord[]): string | undefined =>
    findForDecrypt(readSchedule(records, POLICY), keyId)?.record.keyId;

  it.each([
    ["without a fingerprint", `${id}.n`],
    ["with a fingerprint by another method", named("g", "2")],
  ])("what is stored under an earlier key_id is decrypted by its KEK, now %s", (_what, now) => {
    expect(found(named("c", "1"), generation(1, "other"), generation(2, now))).toBe(now);
  });

  it("a KEK that has a key_id precedes one that may have had it earlier", () => {
    const [own, similar] = [named("c", "1"), `${id}.n`];
    expect(found(own, generation(2, similar), generation(1, own))).toBe(own);
    const alias = kekRecord(labelOf("kms-kek", at(1)), named("g", "1"), { aliases: [own] });
    expect(found(own, generation(2, similar), alias)).toBe(alias.keyId);
  });

  it("a KEK with another CKA_ID or a fingerprint that differs never had a key_id", () => {
    expect(found(named("c", "1"), generation(1, `${"0b".repeat(16)}.n`))).toBeUndefined();
    expect(found(named("c", "1"), generation(1, named("c", "2")))).toBeUndefined();
    const pair = kekRecord(labelOf("kms-kek", at(1)), named("p", "1"), { aliases: [named("c", "2")] });
    expect(found(named("c", "1"), pair)).toBeUndefined();
  });

  it("what is stored under the earlier fingerprint of a pair is decrypted by that pair", () => {
    const aliases = [named("g", "2"), named("s", "3")];
    const pair = kekRecord(labelOf("kms-kek", at(1)), named("p", "1"), { aliases });
    expect(found(named("p", "4"), pair)).toBe(pair.keyId);
  });

  it("a protected KEK is chosen, and never a key that may have been made without a PIN", () => {
    const policy = { ...POLICY, allowUnprotected: [named("s", "3"), named("s", "4")] };
    const allowed = (method: string, digit: string, why: string): KekRecord =>
      kekRecord("kms-kek", named(method, digit), { unprotected: [why] });
    const chosen = (...records: KekRecord[]): string | undefined =>
      findForDecrypt(readSchedule(records, policy), named("c", "1"))?.record.keyId;
    const extractable = allowed("s", "3", "CKA_EXTRACTABLE is true");
    expect(chosen(extractable)).toBe(extractable.keyId);
    expect(chosen(extractable, generation(1, `${id}.n`))).toBe(`${id}.n`);
    expect(chosen(allowed("s", "4", PUBLIC_KEY))).toBeUndefined();
  });

  it("no KEK is chosen among several that may have had a key_id", () => {
    expect(found(named("c", "1"), generation(1, `${id}.n`), generation(2, named("s", "3")))).toBeUndefined();
  });
});

describe("the schedule", () => {
  it("the schedule keeps the earliest copy of a key, whatever the order of the objects", () => {
    const records = [generation(3, "copied"), generation(1, "copied"), generation(2, "later")];
    for (const order of [records, records.toReversed()]) {
      const schedule = readSchedule(order, POLICY);
      expect(schedule.generations).toHaveLength(2);
      expect(activeAt(schedule, POLICY, at(3)).record.keyId).toBe("later");
    }
    const withPlain = readSchedule([generation(2, "copied"), kekRecord("kms-kek", "copied")], POLICY);
    expect(withPlain.generations.map(({ record }) => record.label)).toEqual(["kms-kek"]);
  });

  it("the schedule activates the latest instant that is not in the future, in any order", () => {
    const records = [generation(3), generation(1), generation(2)];
    for (const order of [records, records.toReversed()]) {
      const schedule = readSchedule(order, POLICY);
      const active = activeAt(schedule, POLICY, at(2));
      expect(active.record.keyId).toBe("k2");
      expect(schedule.generations.map((one) => stateOf(one, active, at(2)))).toEqual([
        "standby",
        "active",
        "retired",
      ]);
    }
  });

  it("the schedule orders two keys with one instant alike on every node", () => {
    const records = [generation(1, "a"), generation(1, "b")];
    const choose = (order: typeof records): string =>
      activeAt(readSchedule(order, POLICY), POLICY, at(5)).record.keyId;
    expect(choose(records)).toBe(choose(records.toReversed()));
  });

  it("the schedule counts a plain label as active since the beginning", () => {
    const records = [kekRecord("kms-kek", "plain"), generation(5)];
    const schedule = readSchedule(records, POLICY);
    expect(activeAt(schedule, POLICY, at(1)).record.keyId).toBe("plain");
    expect(activeAt(schedule, POLICY, at(5)).record.keyId).toBe("k5");
  });

  it("the schedule names both of two plain labels, unless one is pinned by key_id or CKA_ID", () => {
    const records = [
      kekRecord("kms-kek", "one", { ckaId: "01" }),
      kekRecord("kms-kek", "two", { ckaId: "02" }),
    ];
    const schedule = readSchedule(records, POLICY);
    expect(() => activeAt(schedule, POLICY, at(1))).toThrow(/one and two|two and one/);
    expect(activeAt(schedule, { ...POLICY, pinned: "two" }, at(1)).record.keyId).toBe("two");
    expect(activeAt(schedule, { ...POLICY, pinned: "01" }, at(1)).record.keyId).toBe("one");
    expect(() => activeAt(schedule, { ...POLICY, pinned: "03" }, at(1))).toThrow(/0 keys/);
  });

  it("the schedule refuses unprotected keys that are allowed neither by key_id nor by label", () => {
    const record = unprotected(generation(1), "CKA_EXTRACTABLE is true");
    const refused = readSchedule([record], POLICY);
    expect(() => activeAt(refused, POLICY, at(2))).toThrow(/CKA_EXTRACTABLE is true.*k1 in keys.allow/);
    expect(findByKeyId(refused, "k1")).toBeUndefined();
    for (const entry of [record.label, "k1"]) {
      const allowed = readSchedule([record], allowing(entry));
      expect(activeAt(allowed, POLICY, at(2)).record.keyId).toBe("k1");
    }
  });

  it("the schedule allows a public key by a key_id with a fingerprint, never by a label", () => {
    const genuine = unprotected(generation(1, VALUE), PUBLIC_KEY);
    const planted = unprotected(generation(1, "ffff.s"), PUBLIC_KEY);
    const byLabel = readSchedule([genuine, planted], allowing(genuine.label));
    expect(byLabel.generations).toEqual([]);
    expect(byLabel.refused[0]?.reason).toMatch(`key_id ${VALUE} instead of "${genuine.label}"`);
    const byKeyId = readSchedule([genuine, planted], allowing(VALUE));
    expect(byKeyId.generations.map(({ record }) => record)).toEqual([genuine]);

    const nameless = unprotected(generation(1, "0a.n"), PUBLIC_KEY);
    const [refusal] = readSchedule([nameless], allowing("0a.n", nameless.label)).refused;
    expect(refusal?.reason).toMatch(/no fingerprint/);
  });

  it("the schedule allows a pair of keys by the key_id of both, not by that of one", () => {
    const pair = unprotected({ ...generation(1, VALUE), kind: "aes+hmac", aliases: ["01.c"] }, PUBLIC_KEY);
    expect(readSchedule([pair], allowing("01.c")).generations).toEqual([]);
    expect(readSchedule([pair], allowing(VALUE)).generations).toHaveLength(1);
  });

  it.each([
    ["one activation instant", generation(1, "a"), generation(1, "z")],
    ["a plain label", kekRecord("kms-kek", "a"), kekRecord("kms-kek", "z")],
    ["one key_id, and an earlier instant of the unprotected key", generation(2, "a"), generation(1, "a")],
  ])(
    "the schedule prefers a protected key to an allowed unprotected one with %s",
    (_what, secure, exposed) => {
      const records = [secure, unprotected(exposed, "CKA_EXTRACTABLE is true")];
      const policy = allowing(exposed.keyId);
      for (const order of [records, records.toReversed()]) {
        expect(activeAt(readSchedule(order, policy), policy, at(5)).record).toBe(secure);
      }
    },
  );

  it("the schedule reports that the only key is not active yet", () => {
    expect(() => activeAt(readSchedule([generation(9)], POLICY), POLICY, at(1))).toThrow(
      /check this node's clock/,
    );
  });

  it("the schedule finds a key by an alias of its key_id", () => {
    const record = { ...generation(1), aliases: ["other"] };
    expect(findByKeyId(readSchedule([record], POLICY), "other")?.record.keyId).toBe("k1");
  });
});

describe("planning a rotation", () => {
  const schedule = readSchedule([generation(1), generation(30)], POLICY);

  it("keys rotate refuses an instant that has passed, precedes a key, or fits no label", () => {
    expect(() => planRotation(schedule, POLICY, at(2), at(1))).toThrow(/has passed/);
    expect(() => planRotation(schedule, POLICY, at(2), at(30))).toThrow(/destroy that KEK first/);
    const year10000 = Date.UTC(10_000, 0);
    expect(planRotation(schedule, POLICY, at(2), year10000 - 1000).label).toContain("@99991231T235959Z");
    expect(() => planRotation(schedule, POLICY, at(2), year10000 - 999)).toThrow(/does not fit a label/);
  });

  it("keys rotate labels the key with its instant, and warns if that is close", () => {
    const plan = planRotation(schedule, POLICY, at(2), at(59));
    expect(plan.label).toBe("kms-kek@20261121T100059Z");
    expect(plan.from.record.keyId).toBe("k1");
    expect(plan.warnings).toHaveLength(1);
    expect(planRotation(schedule, POLICY, at(2), at(59) + 600_000).warnings).toEqual([]);
  });
});
