// What a run of a rotation is for: a KEK that is due by its age, or one that the operator names.

import { expect, it } from "vitest";
import { parseKeyReference } from "../../../src/admin/key-reference.js";
import { goalOf, type Wish } from "../../../src/admin/rotation/goal.js";
import type { Facts, RotationKek } from "../../../src/admin/rotation/position.js";

const HOUR = 3_600_000;
const NOW = 1_000 * HOUR;
const key = (digit: string, state: RotationKek["state"], activation: number): RotationKek => ({
  keyIds: [`${digit.repeat(32)}.c${digit.repeat(32)}`],
  label: `kms-kek@${digit}`,
  activation,
  state,
});
const [standby, active, former] = [
  key("3", "standby", NOW + HOUR),
  key("2", "active", NOW - 10 * HOUR),
  key("1", "retired", NOW - 20 * HOUR),
];
const facts = (...keks: RotationKek[]): Facts => ({
  now: NOW,
  keks,
  nodes: [],
  lacking: [],
  decideAt: undefined,
});
const wish = (given: Partial<Wish> = {}): Wish => ({
  replace: undefined,
  maxAgeMs: 10 * HOUR,
  retirement: undefined,
  ...given,
});
const named = (text: string): Partial<Wish> => ({ replace: parseKeyReference("--replace", text) });

it("the active KEK is replaced from --max-age on, not before", () => {
  expect(goalOf(facts(active, former), wish()).replace).toEqual(active.keyIds);
  expect(goalOf(facts(active, former), wish({ maxAgeMs: 10 * HOUR + 1 })).replace).toBeUndefined();
});

it("a KEK without an activation instant is due", () => {
  expect(goalOf(facts(key("2", "active", -Infinity)), wish()).replace).toEqual(active.keyIds);
});

it("--replace names the KEK whatever its age, and keeps its meaning after the rotation", () => {
  for (const text of [active.keyIds[0], "2".repeat(32)]) {
    expect(goalOf(facts(active, former), wish({ ...named(text), maxAgeMs: NOW })).replace).toEqual(
      active.keyIds,
    );
  }
  const later = facts(key("4", "active", NOW), { ...active, state: "retired" });
  expect(goalOf(later, wish(named(active.keyIds[0]))).replace).toEqual(active.keyIds);
  expect(goalOf(facts(key("4", "active", NOW)), wish(named(active.keyIds[0]))).replace).toEqual(
    active.keyIds,
  );
});

it("--replace rejects a standby KEK and one that no token holds", () => {
  expect(() => goalOf(facts(standby, active), wish(named(standby.keyIds[0])))).toThrow(
    /is standby; cancel it/,
  );
  expect(() => goalOf(facts(active), wish(named("9".repeat(32))))).toThrow(/matches no KEK/);
});

it("--destroy-after concerns every retired KEK, or with --replace only that one", () => {
  const retirement = { afterMs: 1, settledMs: 2 };
  expect(goalOf(facts(active), wish({ retirement })).retirement).toEqual({ ...retirement, only: undefined });
  expect(
    goalOf(facts(active, former), wish({ ...named(former.keyIds[0]), retirement })).retirement?.only,
  ).toEqual(former.keyIds);
});
