// Which KEK becomes active under a policy: only approved ones, but an unapproved KEK that is in use stays in use.

import { beforeEach, expect, it } from "vitest";

import { at, generation, stageActiveKey, type ActiveKeyStage } from "../support/active-key-stage.js";

let kms: ActiveKeyStage;
beforeEach(async () => {
  kms = await stageActiveKey();
});

const restart = async (...keyIds: string[]): Promise<void> => {
  kms.forbidden = new Set(keyIds);
  kms.build();
  await kms.readAndProve();
};

it("a node keeps the published KEK while the due one is not approved, and gives the reason", async () => {
  await restart("k10");
  expect(kms.publish()).toBe("k1");
  kms.now = at(11);
  expect(kms.publish()).toBe("k1");
  expect(kms.heldBack()).toBe("KEK k10 is due but not activated: not approved");
  kms.forbidden?.clear();
  expect(kms.publish()).toBe("k10");
  expect(kms.heldBack()).toBeUndefined();
});

it("a node activates an approved KEK although a later one is not approved", async () => {
  kms.hsm.records = [generation(1), generation(10), generation(11, "rogue")];
  await restart("rogue");
  expect(kms.publish()).toBe("k1");
  kms.now = at(12);
  expect(kms.publish()).toBe("k10");
  expect(kms.heldBack()).toMatch("KEK rogue is due but not activated");
});

it("a node keeps the KEK published before a restart although it is not approved", async () => {
  kms.publish();
  await restart("k1", "k10");
  kms.now = at(12);
  expect(kms.publish()).toBe("k1");
});

it("a node without memory starts with the latest approved KEK", async () => {
  kms.now = at(12);
  await restart("k10");
  expect(kms.publish()).toBe("k1");
  expect(kms.heldBack()).toMatch("k10");
});

it("a node without memory and approval says why no KEK is active", async () => {
  await restart("k1", "k10");
  expect(kms.publish).toThrow("KEK k1 is due but not activated: not approved");
});
