// A rotation in a simulated fleet: a run ends at any point, before or after the effect of any step, another run continues on
// another machine, and the result is the same. No step is repeated that must not be.

import { describe, expect, it } from "vitest";
import { goalOf, type Wish } from "../../../src/admin/rotation/goal.js";
import type { RotationEvent } from "../../../src/admin/rotation/events.js";
import type { Facts, RotationKek, Step } from "../../../src/admin/rotation/position.js";
import {
  runSteps,
  type Open,
  type RotationSteps,
  type RunResult,
} from "../../../src/admin/rotation/run-steps.js";

const HOUR = 3_600_000;

class Killed extends Error {}

/** Tokens, nodes and etcd. Its clock goes forward only in steps that wait. */
class Fleet {
  now = 1_000 * HOUR;
  readonly taken: Step[] = [];
  keks: { id: string; activation: number }[] = [
    { id: "b", activation: this.now - 30 * HOUR },
    { id: "a", activation: this.now - 60 * HOUR },
  ];
  published = ["b", "b", "b"];
  rolledOut = true;
  objects = ["b", "b"];
  /** Number of effects and readings until the run is killed; undefined: never. */
  killIn: number | undefined;

  facts(): Facts {
    const active = this.keks.filter(({ activation }) => activation <= this.now)[0];
    const stateOf = (one: { id: string; activation: number }): RotationKek["state"] =>
      one.activation > this.now ? "standby" : one === active ? "active" : "retired";
    const keks = this.keks.map((one): RotationKek => ({
      keyIds: [one.id],
      label: `kms-kek@${one.id}`,
      activation: one.activation,
      state: stateOf(one),
    }));
    const nodes = this.published.map((publishedKeyId, at) => ({
      name: `node ${at}`,
      publishedKeyId,
      problems: [],
    }));
    const lacking = keks[0]?.state === "standby" && !this.rolledOut ? ["node 2"] : [];
    return { now: this.now, keks, nodes, lacking, decideAt: undefined };
  }

  effect(position: Open): void {
    this.taken.push(position.step);
    switch (position.step) {
      case "create":
        this.keks.unshift({ id: `c${this.keks.length}`, activation: this.now + HOUR / 6 });
        this.rolledOut = false;
        break;
      case "wait":
        this.rolledOut = true;
        break;
      case "activate":
        this.now = position.to.activation;
        break;
      case "confirm":
        this.published = this.published.map(() => position.to.keyIds[0]);
        break;
      case "migrate":
        this.objects = this.objects.map(() => position.to.keyIds[0]);
        break;
      case "retire":
        if (this.objects.includes(position.kek.keyIds[0])) throw new Error("destroyed what is needed");
        this.keks = this.keks.filter(({ id }) => id !== position.kek.keyIds[0]);
        break;
      case "preflight":
      case "verify":
        break;
    }
  }

  /** Ends the run if its time has come. */
  mortal(): void {
    if (this.killIn !== undefined && this.killIn-- === 0) throw new Killed();
  }
}

const FOUND = { preflight: { preflight: true }, migrate: { left: 0 }, verify: { verified: true } } as const;

function stepsOn(fleet: Fleet): RotationSteps {
  return {
    facts: () => {
      fleet.mortal();
      return Promise.resolve(fleet.facts());
    },
    plan: () => ({ detail: "", until: undefined }),
    take: (position) => {
      fleet.mortal();
      fleet.effect(position);
      fleet.mortal();
      const found = FOUND[position.step as keyof typeof FOUND] as object | undefined;
      return Promise.resolve({ detail: "", ...(found !== undefined && { found }) });
    },
  };
}

const WISH: Wish = {
  replace: undefined,
  maxAgeMs: 24 * HOUR,
  retirement: { afterMs: 20 * HOUR, settledMs: HOUR },
};

async function run(
  fleet: Fleet,
  wish = WISH,
  last: Step = "retire",
): Promise<RunResult & { events: RotationEvent[] }> {
  const events: RotationEvent[] = [];
  const result = await runSteps(stepsOn(fleet), {
    goal: (facts) => goalOf(facts, wish),
    last,
    report: (event) => events.push(event),
    signal: new AbortController().signal,
  });
  return { ...result, events };
}

const outcome = ({ keks, published, objects }: Fleet): unknown => ({
  keks: keks.map(({ id }) => id),
  published,
  objects,
});
const count = ({ taken }: Fleet, step: Step): number => taken.filter((one) => one === step).length;

/** Runs until a run is complete; each is killed after this many effects and readings, the last after none. */
async function runKilled(fleet: Fleet, kills: readonly number[]): Promise<void> {
  for (const killIn of kills) {
    fleet.killIn = killIn;
    await run(fleet).catch((error: unknown) => {
      if (!(error instanceof Killed)) throw error;
    });
  }
  fleet.killIn = undefined;
  await run(fleet);
}

describe("runSteps", () => {
  it("runSteps takes every step once and postpones what is not due", async () => {
    const fleet = new Fleet();
    const { to, destroyed, postponed, events } = await run(fleet);
    expect(fleet.taken).toEqual([
      "preflight",
      "create",
      "wait",
      "activate",
      "confirm",
      "migrate",
      "verify",
      "retire",
    ]);
    expect([to?.keyIds, destroyed.map(({ keyIds }) => keyIds[0])]).toEqual([["c2"], ["a"]]);
    expect(postponed?.kek.keyIds).toEqual(["b"]);
    expect(events.map(({ step, event }) => `${step} ${event}`).slice(-3)).toEqual([
      "retire begun",
      "retire done",
      "retire postponed",
    ]);
  });

  it("runSteps, killed once at any point, leads to the same result in the next run", async () => {
    const whole = new Fleet();
    await run(whole);
    for (let killIn = 0; killIn < 30; killIn++) {
      const fleet = new Fleet();
      await runKilled(fleet, [killIn]);
      expect(outcome(fleet), `killed after ${killIn}`).toEqual(outcome(whole));
      expect([count(fleet, "create"), count(fleet, "retire")], `killed after ${killIn}`).toEqual([1, 1]);
    }
  });

  it("runSteps, killed twice at any points, leads to the same result in the third run", async () => {
    const whole = new Fleet();
    await run(whole);
    for (let first = 0; first < 26; first++) {
      for (let second = 0; second < 26; second++) {
        const fleet = new Fleet();
        await runKilled(fleet, [first, second]);
        expect([outcome(fleet), count(fleet, "create")], `${first}, ${second}`).toEqual([outcome(whole), 1]);
      }
    }
  });

  it("runSteps after a complete rotation makes nothing and destroys nothing", async () => {
    const fleet = new Fleet();
    await run(fleet);
    const before = outcome(fleet);
    await run(fleet);
    expect([outcome(fleet), count(fleet, "create"), count(fleet, "retire")]).toEqual([before, 1, 1]);
  });

  it("runSteps ends after the last step that is wanted", async () => {
    for (const [last, taken] of [
      ["preflight", 1],
      ["create", 2],
      ["confirm", 5],
      ["verify", 7],
    ] as const) {
      const fleet = new Fleet();
      const { destroyed } = await run(fleet, WISH, last);
      expect([fleet.taken.length, fleet.taken.at(-1), destroyed]).toEqual([taken, last, []]);
    }
  });

  it("runSteps destroys nothing without --destroy-after", async () => {
    const fleet = new Fleet();
    await run(fleet, { ...WISH, retirement: undefined });
    expect([count(fleet, "retire"), fleet.keks.length]).toEqual([0, 3]);
  });

  it("runSteps continues after another run has taken the next steps", async () => {
    const fleet = new Fleet();
    const steps = stepsOn(fleet);
    // While this run is in its preflight, another machine completes the rotation.
    const take: RotationSteps["take"] = async (position, facts) => {
      if (position.step === "preflight") await run(fleet);
      return steps.take(position, facts);
    };
    const { to } = await runSteps(
      { ...steps, take },
      {
        goal: (facts) => goalOf(facts, WISH),
        last: "retire",
        report: () => undefined,
        signal: new AbortController().signal,
      },
    );
    expect([to?.keyIds[0], count(fleet, "create"), count(fleet, "retire")]).toEqual(["c2", 1, 1]);
  });

  it("runSteps stops before the next step after an interrupt", async () => {
    const fleet = new Fleet();
    const controller = new AbortController();
    const steps = stepsOn(fleet);
    const interrupted = runSteps(
      { ...steps, take: (position, facts) => (controller.abort(), steps.take(position, facts)) },
      {
        goal: (facts) => goalOf(facts, WISH),
        last: "retire",
        report: () => undefined,
        signal: controller.signal,
      },
    );
    await expect(interrupted).rejects.toMatchObject({ code: "CANCELLED" });
    expect(fleet.taken).toEqual(["preflight"]);
  });
});
