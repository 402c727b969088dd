// An outage: when it begins, and when its grace period ends.

import { describe, expect, it } from "vitest";

import { KmsError } from "../../src/errors.js";
import { Outage } from "../../src/provider/outage.js";
import { SILENT } from "../support/fake-hsm.js";

describe("an outage", () => {
  it("an HSM outage is logged with its duration in tenths of a second", () => {
    let now = 0;
    const seconds: unknown[] = [];
    const note = (fields: object): void => void seconds.push((fields as { seconds: number }).seconds);
    const log = { ...SILENT, warn: note, info: note };
    const outage = new Outage({ gracePeriodMs: 1000, onHsmLoss: "stopWrites" }, log, () => now);
    outage.begin(new KmsError("HSM_UNAVAILABLE", "one"));
    now = 1234.5678;
    outage.begin(new KmsError("HSM_UNAVAILABLE", "two"));
    outage.end();
    expect(seconds).toEqual([0, 1.2, 1.2]);
  });

  it("an HSM outage counts from its beginning, and its grace ends once", () => {
    let now = 0;
    const outage = new Outage({ gracePeriodMs: 1000, onHsmLoss: "stopWrites" }, SILENT, () => now);
    expect(outage.graceIsOver).toBe(false);
    outage.begin(new KmsError("HSM_UNAVAILABLE", "one"));
    now = 900;
    outage.begin(new KmsError("DEADLINE", "two"));
    expect([outage.seconds, outage.graceIsOver, outage.reason?.message]).toEqual([0.9, false, "two"]);
    now = 1001;
    expect(outage.graceIsOver).toBe(true);
    outage.end();
    expect([outage.seconds, outage.graceIsOver, outage.reason]).toEqual([0, false, undefined]);
  });
});
