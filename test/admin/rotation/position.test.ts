// The position of a rotation in every combination of what tokens, nodes and etcd may show.

import { describe, expect, it } from "vitest";
import {
  NOTHING_FOUND,
  positionOf,
  STEPS,
  stepAfter,
  type Facts,
  type Findings,
  type Goal,
  type RotationKek,
} from "../../../src/admin/rotation/position.js";

const NOW = Date.parse("2026-11-27T12:00:00Z");
const MINUTE = 60_000;

const kek = (
  name: string,
  state: RotationKek["state"],
  activation: number,
  ...aliases: string[]
): RotationKek => ({ keyIds: [name, ...aliases], label: `kms-kek@${name}`, activation, state });
const earlier = kek("earlier", "retired", NOW - 100 * MINUTE);
const former = kek("former", "retired", NOW - 60 * MINUTE);
const active = kek("active", "active", NOW - 30 * MINUTE, "alias");
const standby = kek("standby", "standby", NOW + 10 * MINUTE);

const node = (publishedKeyId: string | null) => ({
  name: `node of ${publishedKeyId ?? "nothing"}`,
  publishedKeyId,
  problems: [],
});
const facts = (given: Partial<Facts> = {}): Facts => ({
  now: NOW,
  keks: [active, former],
  nodes: [node("active"), node("alias")],
  lacking: [],
  decideAt: undefined,
  ...given,
});
const goal = (given: Partial<Goal> = {}): Goal => ({ replace: undefined, retirement: undefined, ...given });
const found = (given: Partial<Findings> = {}): Findings => ({
  preflight: true,
  left: 0,
  verified: true,
  ...given,
});
const retirement = { afterMs: 20 * MINUTE, settledMs: 15 * MINUTE, only: undefined };

type Combination = [
  Facts["keks"],
  Facts["nodes"],
  Facts["lacking"],
  Goal["replace"],
  Findings["left"],
  boolean,
  boolean,
];
type Lists<T extends readonly unknown[]> = { [At in keyof T]: T[At][] };
type Choices = Lists<Combination>;

/** Returns every combination of one choice from each list. */
function product(choices: Choices): Combination[] {
  const lists: readonly (readonly unknown[])[] = choices;
  return lists.reduce<unknown[][]>(
    (sum, list) => sum.flatMap((begun) => list.map((choice) => [...begun, choice])),
    [[]],
  ) as Combination[];
}

describe("the position of a rotation", () => {
  it("a rotation begins with the preflight, whatever exists", () => {
    for (const keks of [[], [active], [standby, active]]) {
      expect(positionOf(facts({ keks }), goal({ replace: ["active"] }), NOTHING_FOUND).step).toBe(
        "preflight",
      );
    }
  });

  it("a rotation makes a KEK only while the one to replace is active and none is standby", () => {
    for (const name of ["active", "alias"]) {
      expect(positionOf(facts(), goal({ replace: [name] }), found())).toEqual({
        step: "create",
        from: active,
      });
    }
    const others = [
      facts({ keks: [standby, active] }),
      facts({ keks: [kek("next", "active", NOW), { ...active, state: "retired" }] }),
    ];
    for (const other of others) {
      expect(positionOf(other, goal({ replace: ["active"] }), found()).step).not.toBe("create");
    }
    expect(positionOf(facts(), goal({ replace: ["former"] }), found()).step).not.toBe("create");
    expect(positionOf(facts(), goal(), found()).step).not.toBe("create");
  });

  it("a rotation waits while a token or node lacks the standby KEK, or until the decision", () => {
    const keks = [standby, active];
    const at = (given: Partial<Facts>): string => positionOf(facts({ keks, ...given }), goal(), found()).step;
    expect(at({ lacking: ["a node"] })).toBe("wait");
    expect(at({ decideAt: NOW + 1 })).toBe("wait");
    expect(at({ lacking: ["a node"], decideAt: NOW })).toBe("wait");
    expect(at({ decideAt: NOW })).toBe("activate");
    expect(at({})).toBe("activate");
  });

  it("a rotation with two standby KEKs is ambiguous and names both", () => {
    const second = kek("second", "standby", NOW + 20 * MINUTE);
    const position = positionOf(facts({ keks: [second, standby, active] }), goal(), found());
    expect(position).toMatchObject({
      step: "blocked",
      reason: expect.stringMatching(/standby.*second.*abort/) as string,
    });
  });

  it("a rotation without an active KEK is blocked", () => {
    expect(positionOf(facts({ keks: [former] }), goal(), found()).step).toBe("blocked");
  });

  it("a rotation is confirmed only if every node publishes the KEK, by any of its key_ids", () => {
    for (const publishedKeyId of ["former", null, "unknown"]) {
      const nodes = [node("active"), node(publishedKeyId)];
      expect(positionOf(facts({ nodes }), goal(), found()).step).toBe("confirm");
    }
    expect(positionOf(facts(), goal(), found()).step).toBe("done");
  });

  it("a rotation migrates until nothing is left, then verifies, then retires", () => {
    const at = (findings: Findings): string => positionOf(facts(), goal({ retirement }), findings).step;
    expect(at(found({ left: undefined }))).toBe("migrate");
    expect(at(found({ left: 1 }))).toBe("migrate");
    expect(at(found({ verified: false }))).toBe("verify");
    expect(at(found())).toBe("retire");
  });

  it("a rotation retires nothing unless asked to, and then the KEK that is due first", () => {
    const keks = [active, former, earlier];
    const position = (given: Partial<Goal>): unknown => positionOf(facts({ keks }), goal(given), found());
    expect(position({})).toEqual({ step: "done", to: active });
    // The successor of `earlier` is `former`.
    expect(position({ retirement })).toMatchObject({ kek: earlier, notBefore: NOW - 40 * MINUTE });
    expect(position({ retirement: { ...retirement, only: ["former"] } })).toMatchObject({
      kek: former,
      notBefore: NOW - 10 * MINUTE,
    });
    expect(position({ retirement: { ...retirement, only: ["gone"] } })).toMatchObject({ step: "done" });
  });

  it("a rotation retires no KEK before every API server has left it", () => {
    const soon = { ...retirement, afterMs: 0 };
    const position = positionOf(facts(), goal({ retirement: soon }), found());
    expect(position).toMatchObject({ kek: former, notBefore: active.activation + 15 * MINUTE });
  });

  it("a rotation retires no KEK whose successor has no instant", () => {
    const plain = [kek("one", "active", -Infinity), kek("two", "retired", -Infinity)];
    const position = positionOf(facts({ keks: plain, nodes: [node("one")] }), goal({ retirement }), found());
    expect(position.step).toBe("done");
  });

  it("a rotation has one position, and never destroys before everything else is done", () => {
    let combinations = 0;
    const choices: Choices = [
      [[active, former], [standby, active, former], [active]],
      [[node("active")], [node("former")], []],
      [[], ["a node"]],
      [undefined, ["active"], ["former"]],
      [undefined, 0, 5],
      [false, true],
      [false, true],
    ];
    for (const [keks, nodes, lacking, replace, left, verified, preflight] of product(choices)) {
      const known = { preflight, left, verified };
      const { step } = positionOf(facts({ keks, nodes, lacking }), goal({ replace, retirement }), known);
      combinations++;
      const isSettled = preflight && left === 0 && verified && !keks.includes(standby);
      const agrees = nodes.every(({ publishedKeyId }) => publishedKeyId === "active");
      if (step === "retire" || step === "done") expect([isSettled, agrees]).toEqual([true, true]);
      if (step === "create") expect([keks.includes(standby), replace]).toEqual([false, ["active"]]);
    }
    expect(combinations).toBe(648);
  });

  it("every step of a rotation has one that follows, apart from the last", () => {
    expect(STEPS.map(stepAfter)).toEqual([...STEPS.slice(1), undefined]);
  });
});
