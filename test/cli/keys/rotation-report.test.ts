// What `keys rotate` reports if a rotation should have been aborted but could not be.

import { expect, it } from "vitest";

import type { Rotation } from "../../../src/admin/guarded-rotation.js";
import { reportRotation } from "../../../src/cli/keys/rotation-report.js";
import { KmsError } from "../../../src/errors.js";
import { kekRecord } from "../../support/kek-record.js";

const ACTIVATION = Date.UTC(2026, 11, 1, 10);
const MADE = kekRecord("kms-kek@20261201T100000Z", "new");
const FAILURE = new KmsError("HSM_UNAVAILABLE", "away");
const ROTATION: Rotation = {
  plan: {
    label: MADE.label,
    activation: ACTIVATION,
    from: { record: kekRecord("kms-kek@20260101T000000Z", "old"), activation: Date.UTC(2026, 0, 1) },
    warnings: [],
  },
  made: MADE,
  readiness: [],
  converged: false,
  abort: {
    reason: "a node lacks it",
    tokens: [{ token: "pkcs11:token=a", outcome: "failed", error: "away" }],
    failure: FAILURE,
  },
};

it("a report of an aborted rotation names the remaining key and what to do in time", () => {
  let shown = "";
  const terminal = { out: (text: string) => (shown = text), err: () => undefined, isInteractive: false };
  const report = (): void => {
    reportRotation(ROTATION, "table", terminal);
  };
  expect(report).toThrow(
    expect.objectContaining({
      code: "HSM_UNAVAILABLE",
      message:
        "rotation aborted (a node lacks it), but new could not be destroyed (pkcs11:token=a: away); it becomes active " +
        "at 2026-12-01T10:00:00.000Z unless 'kms-pkcs11 keys destroy new --nodes ...' succeeds at least 10 s before that",
    }),
  );
  expect(shown).toMatch(/^active from +2026-12-01T10:00:00.000Z\nuntil then +old$/m);
});
