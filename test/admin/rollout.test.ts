// The line that a terminal shows during a rollout: how much time is left, and who is not ready.

import { expect, it } from "vitest";
import type { Token } from "../../src/admin/command-tokens.js";
import { waitForClones, waitForConvergence } from "../../src/admin/rollout.js";
import { kekRecord } from "../support/kek-record.js";
import { silentOperator } from "../support/operator.js";

const kek = kekRecord("kms-kek", "k");
const hsm = { listKeks: () => Promise.resolve([kek]) } as unknown as Token["hsm"];
const tokens: Token[] = [{ name: "other", hsm, records: [kek], failure: undefined, openMs: 0 }];

/** Returns an operator, and the lines that it was shown. */
function viewer() {
  const shown: string[] = [];
  const operator = {
    ...silentOperator(),
    showStatus: (text: () => string) => {
      shown.push(text());
      return () => undefined;
    },
  };
  return { operator, shown };
}

it("a rollout shows the time to the activation, and who is not ready", async () => {
  const { operator, shown } = viewer();
  await waitForConvergence({
    check: () =>
      Promise.resolve([
        { kind: "token", name: "one", state: "ready", detail: "holds it", clockAheadMs: null },
        { kind: "node", name: "two", state: "missing", detail: "has not seen it yet", clockAheadMs: 0 },
      ]),
    until: Date.now(),
    activation: Date.now() + 600_000,
    untilDeadline: false,
    signal: new AbortController().signal,
    operator,
  });
  expect(shown).toEqual([
    expect.stringMatching(/^active in \d+ min \d+ s \| 1 of 2 ready \| two has not seen it yet$/),
  ]);
});

it("a wait for clones of an active KEK shows the time that is left, not an activation", async () => {
  const { operator, shown } = viewer();
  await waitForClones(kek, tokens, Date.now() + 60_000, operator);
  expect(shown).toEqual([expect.stringMatching(/^\d+ s left \| 1 of 1 ready$/)]);
});
