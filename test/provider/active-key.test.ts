import { beforeEach, describe, expect, it } from "vitest";

import { ActiveKey, type Published } from "../../src/provider/active-key.js";
import { labelOf } from "../../src/provider/instant.js";
import { Keyring } from "../../src/provider/keyring.js";
import { Prover } from "../../src/provider/prover.js";
import { FakeHsm, SILENT } from "../support/fake-hsm.js";
import { kekRecord } from "../support/kek-record.js";

const at = (second: number): number => Date.UTC(2026, 10, 21, 10, 0, second);
const generation = (second: number, keyId = `k${String(second)}`) =>
  kekRecord(labelOf("kms-kek", at(second)), keyId);

let hsm: FakeHsm;
let now: number;
let away: boolean;
let saved: Published | undefined;
let keyring: Keyring;
let prover: Prover;
let active: ActiveKey;

function build(): void {
  const policy = { objectName: "kms-kek", allowUnprotected: [] };
  keyring = new Keyring({ hsm, policy, log: SILENT, onRead: () => undefined });
  prover = new Prover(hsm, "auto", SILENT);
  const memory = { load: () => saved, save: (published: Published) => (saved = published) };
  active = new ActiveKey({ keyring, prover, memory, isHsmAway: () => away, now: () => now, log: SILENT });
}

async function readAndProve(): Promise<void> {
  await prover.prove((await keyring.read()).generations);
}

beforeEach(async () => {
  hsm = new FakeHsm();
  hsm.records = [generation(1), generation(10)];
  now = at(5);
  away = false;
  saved = undefined;
  build();
  await readAndProve();
});

describe("the active KEK", () => {
  it("switches at its instant, and only when it is asked to", () => {
    expect(active.advance().record.keyId).toBe("k1");
    now = at(10);
    expect(active.choose().record.keyId).toBe("k10");
    expect(active.published?.record.keyId).toBe("k1");
    expect(active.advance().record.keyId).toBe("k10");
    expect(active.published?.record.keyId).toBe("k10");
  });

  it("never goes back when the clock does", () => {
    now = at(10);
    active.advance();
    now = at(2);
    expect(active.advance().record.keyId).toBe("k10");
  });

  it("stays with the later KEK after a restart with the clock behind", async () => {
    now = at(10);
    active.advance();
    now = at(2);
    build();
    await readAndProve();
    expect(active.advance().record.keyId).toBe("k10");
  });

  it("refuses another key that claims the instant of the one published before", async () => {
    active.advance();
    hsm.records = [generation(1, "impostor")];
    build();
    await readAndProve();
    expect(() => active.advance()).toThrow(/impostor.*k1/);
  });

  it("does not activate a standby KEK that fails its self-test, and says so", async () => {
    hsm.broken.add("k20");
    active.advance();
    hsm.records = [generation(1), generation(20)];
    await readAndProve();
    now = at(20);
    expect(active.advance().record.keyId).toBe("k1");
    expect(active.heldBack?.message).toMatch(/k20.*not activated.*broken/);
    hsm.broken.clear();
    await readAndProve();
    expect(active.advance().record.keyId).toBe("k20");
    expect(active.heldBack).toBeUndefined();
  });

  it("goes on after a restart with what was published, while the KEK that is due fails its self-test", async () => {
    active.advance();
    hsm.broken.add("k10");
    now = at(10);
    build();
    await readAndProve();
    expect(active.advance().record.keyId).toBe("k1");
    expect(active.heldBack?.message).toMatch(/k10.*not activated/);
    saved = undefined;
    build();
    await readAndProve();
    expect(() => active.advance()).toThrow(/k10 is broken/);
  });

  it("does not switch while the HSM is away", () => {
    active.advance();
    away = true;
    now = at(10);
    expect(active.advance().record.keyId).toBe("k1");
    away = false;
    expect(active.advance().record.keyId).toBe("k10");
  });

  it("does not fall back to a retired KEK when the active one is gone", async () => {
    now = at(10);
    active.advance();
    hsm.records = [generation(1)];
    await readAndProve();
    expect(() => active.advance()).toThrow(/k10 is gone from the token/);
  });
});
