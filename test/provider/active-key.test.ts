// The active KEK: when it switches, and what it remembers after a restart.

import { beforeEach, expect, it } from "vitest";

import { KmsError } from "../../src/errors.js";
import { at, generation, stageActiveKey, type ActiveKeyStage } from "../support/active-key-stage.js";

let kms: ActiveKeyStage;
beforeEach(async () => {
  kms = await stageActiveKey();
});

it("the active KEK switches at the activation, and only when Status publishes it", () => {
  expect(kms.publish()).toBe("k1");
  kms.now = at(10);
  expect(kms.chosen()).toBe("k10");
  expect(kms.active.published?.record.keyId).toBe("k1");
  expect(kms.publish()).toBe("k10");
  expect(kms.active.published?.record.keyId).toBe("k10");
});

it("the active KEK never returns to an earlier KEK when the clock is set back, and warns once", async () => {
  kms.now = at(10);
  kms.publish();
  kms.now = at(10) - 5 * 3_600_000;
  expect(kms.publish()).toBe("k10");
  await kms.readAndProve();
  expect(kms.publish()).toBe("k10");
  expect(kms.warnings).toEqual([expect.stringContaining("clock is behind")]);
  expect(kms.states()).toEqual(["active", "retired"]);
});

it("the active KEK stays the published KEK while another is due, also after a restart", async () => {
  expect([kms.states(), kms.report()]).toMatchObject([
    ["standby", "due"],
    { publishedKeyId: null, activeKeyId: null, dueKeyId: "k1" },
  ]);
  kms.publish();
  expect([kms.states(), kms.report().dueKeyId]).toEqual([["standby", "active"], null]);
  for (const restart of [() => undefined, kms.build]) {
    restart();
    await kms.readAndProve();
    kms.now = at(10);
    expect([kms.states(), kms.report()]).toMatchObject([
      ["due", "active"],
      { publishedKeyId: "k1", activeKeyId: "k1", dueKeyId: "k10", heldBack: null },
    ]);
  }
  kms.publish();
  expect([kms.states(), kms.report()]).toMatchObject([
    ["active", "retired"],
    { publishedKeyId: "k10", activeKeyId: "k10", dueKeyId: null },
  ]);
});

it("the active KEK stays while the switch cannot be recorded, unless it is the first KEK", async () => {
  kms.full = true;
  expect(kms.publish()).toBe("k1");
  kms.full = false;
  kms.build();
  await kms.readAndProve();
  kms.publish();
  [kms.full, kms.now] = [true, at(10)];
  for (const restart of [() => undefined, kms.build]) {
    restart();
    await kms.readAndProve();
    expect(kms.publish()).toBe("k1");
    expect(kms.heldBack()).toMatch(/k10 is due but not activated: .*cannot record KEK k10: no space/);
    expect(kms.report()).toMatchObject({
      publishedKeyId: "k1",
      heldBack: expect.stringContaining("k10") as string,
    });
  }
  kms.full = false;
  expect(kms.publish()).toBe("k10");
  expect(kms.heldBack()).toBeUndefined();
});

it("the active KEK is recorded by a later Status if the first could not record it", async () => {
  await kms.readAndProve();
  kms.full = true;
  expect([kms.publish(), kms.saved]).toEqual(["k1", undefined]);
  kms.full = false;
  expect([kms.publish(), kms.saved?.keyId]).toEqual(["k1", "k1"]);
});

it("the active KEK stays with the later KEK after a restart with the clock behind", async () => {
  kms.now = at(10);
  kms.publish();
  kms.now = at(2);
  kms.build();
  await kms.readAndProve();
  expect(kms.publish()).toBe("k10");
  expect(kms.warnings).toEqual([expect.stringContaining("clock is behind")]);
});

it("the active KEK changes only once the token was checked after the activation", () => {
  kms.checkedAt = at(5);
  kms.publish();
  kms.now = at(12);
  expect(kms.publish()).toBe("k1");
  expect(kms.heldBack()).toBeUndefined();
  kms.checkedAt = at(11);
  expect(kms.publish()).toBe("k10");
});

it("the active KEK is not reported as gone while a token that may hold it has not been read", async () => {
  kms.now = at(10);
  kms.publish();
  kms.unread = new KmsError("HSM_UNAVAILABLE", "token 2 has not been read since the start");
  kms.hsm.records = [generation(1)];
  kms.build();
  await kms.readAndProve();
  expect(() => kms.publish()).toThrow(/k10 is on no token that could be read; token 2 has not been read/);
  kms.hsm.records = [];
  kms.saved = undefined;
  kms.build();
  await kms.readAndProve();
  expect(() => kms.publish()).toThrow(kms.unread);
  kms.unread = undefined;
  expect(() => kms.publish()).toThrow(/holds no KEK/);
});

it("the active KEK is never an earlier KEK when the one published before a restart is gone", async () => {
  kms.now = at(10);
  kms.publish();
  kms.hsm.records = [generation(1)];
  kms.build();
  await kms.readAndProve();
  expect(() => kms.publish()).toThrow(/k10 is gone from the token, and .* is an earlier one/);
  kms.hsm.records = [generation(1), generation(11)];
  kms.now = at(11);
  await kms.readAndProve();
  expect(kms.publish()).toBe("k11");
});

it("the active KEK is never a different key with the activation of the KEK published before", async () => {
  kms.publish();
  kms.hsm.records = [generation(1, "impostor")];
  kms.build();
  await kms.readAndProve();
  expect(() => kms.publish()).toThrow(/impostor.*k1/);
});

it("a standby KEK that fails its self-test does not become active, and the reason is shown", async () => {
  kms.hsm.broken.add("k20");
  kms.publish();
  kms.hsm.records = [generation(1), generation(20)];
  await kms.readAndProve();
  kms.now = at(20);
  expect(kms.publish()).toBe("k1");
  expect(kms.heldBack()).toMatch(/k20.*not activated.*broken/);
  expect(kms.report()).toMatchObject({
    activeKeyId: "k1",
    publishedKeyId: "k1",
    heldBack: expect.stringContaining("k20") as string,
    keys: [
      { keyId: "k20", state: "standby", failure: expect.stringContaining("broken") as string },
      { state: "active" },
    ],
  });
  kms.hsm.broken.clear();
  await kms.readAndProve();
  expect(kms.publish()).toBe("k20");
  expect(kms.heldBack()).toBeUndefined();
});

it("the active KEK stays the same after a restart while the due KEK fails its self-test", async () => {
  kms.publish();
  kms.hsm.broken.add("k10");
  kms.now = at(10);
  kms.build();
  await kms.readAndProve();
  expect(kms.publish()).toBe("k1");
  expect(kms.heldBack()).toMatch(/k10.*not activated/);
  kms.saved = undefined;
  kms.build();
  await kms.readAndProve();
  expect(() => kms.publish()).toThrow(/k10 is broken/);
});

it("the active KEK does not change while the HSM is away", () => {
  kms.publish();
  kms.away = true;
  kms.now = at(10);
  expect(kms.publish()).toBe("k1");
  kms.away = false;
  expect(kms.publish()).toBe("k10");
});

it("the active KEK does not fall back to a retired KEK when the active one is gone", async () => {
  kms.now = at(10);
  kms.publish();
  kms.hsm.records = [generation(1)];
  await kms.readAndProve();
  expect(() => kms.publish()).toThrow(/k10 is gone from the token/);
});
