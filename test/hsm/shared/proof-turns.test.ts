// The turns of proofs of clusters that share a token.

import { expect, it } from "vitest";

import { KmsError } from "../../../src/errors.js";
import { ProofTurns } from "../../../src/hsm/shared/proof-turns.js";

const AWAY = new KmsError("DEADLINE", "the HSM did not answer");
const tick = () => new Promise(setImmediate);

/** Proofs that the test ends. */
class Proofs {
  readonly begun: { end: (error?: Error) => void }[] = [];
  readonly turns: ProofTurns;

  constructor(atOnce: number) {
    this.turns = new ProofTurns(() => atOnce);
  }

  make(): Promise<string> {
    const proof = () =>
      new Promise<string>((resolve, reject) => {
        this.begun.push({
          end: (error) => {
            if (error === undefined) resolve("proven");
            else reject(error);
          },
        });
      });
    return this.turns.make(proof);
  }

  makeAll(count: number): Promise<PromiseSettledResult<string>[]> {
    return Promise.allSettled(Array.from({ length: count }, () => this.make()));
  }
}

it("a limited number of proofs is made at a time, and each ended one begins the next", async () => {
  const proofs = new Proofs(2);
  const all = proofs.makeAll(5);
  for (let ended = 0; ended < 5; ended++) {
    await tick();
    expect(proofs.begun).toHaveLength(Math.min(5, ended + 2));
    proofs.begun[ended]?.end(ended === 1 ? new KmsError("KEY_MISSING", "gone") : undefined);
  }
  expect((await all).map(({ status }) => status === "fulfilled")).toEqual([true, false, true, true, true]);
});

it("one proof without an answer fails alone: its KEK may hang by itself", async () => {
  const proofs = new Proofs(1);
  const all = proofs.makeAll(3);
  for (const error of [AWAY, undefined, AWAY]) {
    await tick();
    proofs.begun.at(-1)?.end(error);
  }
  expect((await all).map(({ status }) => status)).toEqual(["rejected", "fulfilled", "rejected"]);
});

it("once two in a row have no answer, those that wait fail with them, and later ones are made", async () => {
  const proofs = new Proofs(1);
  const all = proofs.makeAll(100);
  for (let failed = 0; failed < 2; failed++) {
    await tick();
    proofs.begun.at(-1)?.end(AWAY);
  }
  const outcomes = await all;
  expect(outcomes.every((one) => one.status === "rejected" && one.reason === AWAY)).toBe(true);
  expect(proofs.begun).toHaveLength(2);
  const later = proofs.make();
  await tick();
  proofs.begun.at(-1)?.end();
  expect(await later).toBe("proven");
});
