// An outage: when it begins, and when its grace period ends.

import { describe, expect, it } from "vitest";

import { KmsError } from "../../src/errors.js";
import { Outage } from "../../src/provider/outage.js";
import { SILENT } from "../support/fake-hsm.js";

describe("an outage", () => {
  it("counts from its beginning, and its grace ends once", () => {
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
