// What becomes of a PIN that is handed over while the plugin is about to find that it has none.

import { expect, it } from "vitest";

import { KmsError } from "../../src/errors.js";
import { stateAfter } from "../../src/hsm/held-pin.js";
import type { HsmState } from "../../src/hsm/port.js";

const LIMIT_MS = 20_000;

it.each<[string, HsmState]>([
  ["a login", { up: true }],
  ["a refusal", { up: false, reason: new KmsError("PIN_REFUSED", "wrong") }],
])("%s is awaited, whatever an attempt without the PIN ends with", async (_what, after) => {
  const begun: HsmState = { up: false, reason: undefined };
  const without: HsmState = {
    up: false,
    reason: new KmsError("PIN_UNREADABLE", "none has been handed over"),
  };
  const states = [begun, begun, without];
  const state = (): HsmState => states.shift() ?? after;
  await expect(stateAfter(() => undefined, state, LIMIT_MS)).resolves.toBe(after);
});
