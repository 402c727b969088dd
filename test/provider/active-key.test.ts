// The active KEK: when it switches, and what it remembers after a restart.

import { beforeEach, describe, expect, it } from "vitest";

import { KmsError } from "../../src/errors.js";
import { ActiveKey } from "../../src/provider/active-key.js";
import { KeyMemory, type Published } from "../../src/provider/key-memory.js";
import { reportKeyring, reportKeys, type KeyringReport } from "../../src/provider/key-report.js";
import { labelOf } from "../../src/provider/kek-label.js";
import { Keyring } from "../../src/provider/keyring.js";
import { Prover } from "../../src/provider/prover.js";
import { FakeHsm, SILENT } from "../support/fake-hsm.js";
import { kekRecord } from "../support/kek-record.js";

const at = (second: number): number => Date.UTC(2026, 10, 21, 10, 0, second);
const generation = (second: number, keyId = `k${second}`) => kekRecord(labelOf("kms-kek", at(second)), keyId);

let hsm: FakeHsm;
let now: number;
let away: boolean;
let checkedAt: number | undefined;
let saved: Published | undefined;
let full: boolean;
let unread: KmsError | undefined;
let keyring: Keyring;
let prover: Prover;
let active: ActiveKey;
let warnings: string[];
/** Key_ids that must not become active; undefined without a policy. */
let forbidden: Set<string> | undefined;

function build(): void {
  const policy = { objectName: "kms-kek", allowUnprotected: [] };
  keyring = new Keyring({ hsm, requestTimeoutMs: 2_000, policy, log: SILENT, onRead: () => undefined });
  prover = new Prover(hsm, "auto", SILENT);
  const memory = {
    load: () => saved,
    save: (published: Published) => {
      if (full) throw Object.assign(new Error("no space"), { code: "ENOSPC" });
      saved = published;
    },
  };
  warnings = [];
  const log = { ...SILENT, warn: (_fields: object, text: string) => void warnings.push(text) };
  const health = {
    get isOutage() {
      return away;
    },
    get unread() {
      return unread;
    },
    get checkedAt() {
      return checkedAt;
    },
  };
  const gate = forbidden && {
    problem: undefined,
    refusalOf: ({ record }: { record: { keyId: string } }) =>
      forbidden?.has(record.keyId) === true ? "not approved" : undefined,
  };
  active = new ActiveKey({ keyring, prover, memory, health, gate, now: () => now, log });
}

/** Publishes as a Status answer does, and returns the key_id. */
const publish = (): string => active.publish().generation.record.keyId;
const chosen = (): string | undefined => active.choose().generation?.record.keyId;
const heldBack = (): string | undefined => active.choose().heldBack?.message;

async function readAndProve(): Promise<void> {
  await prover.prove((await keyring.read()).generations, active.published?.record.keyId);
}

beforeEach(async () => {
  hsm = new FakeHsm();
  hsm.records = [generation(1), generation(10)];
  now = at(5);
  away = false;
  checkedAt = undefined;
  saved = undefined;
  full = false;
  forbidden = undefined;
  unread = undefined;
  build();
  await readAndProve();
});

const states = (): string[] => reportKeys({ keyring, prover, active }, now).map(({ state }) => state);
const report = (): KeyringReport => {
  const clocks = { now: () => now, uptime: () => now };
  const store = { load: () => undefined, save: () => undefined };
  const memory = new KeyMemory({ store, log: SILENT, ...clocks });
  return reportKeyring({ keyring, prover, active, memory }, now);
};

describe("the active KEK", () => {
  it("the active KEK switches at the activation, and only when Status publishes it", () => {
    expect(publish()).toBe("k1");
    now = at(10);
    expect(chosen()).toBe("k10");
    expect(active.published?.record.keyId).toBe("k1");
    expect(publish()).toBe("k10");
    expect(active.published?.record.keyId).toBe("k10");
  });

  it("the active KEK never returns to an earlier KEK when the clock is set back, and warns once", async () => {
    now = at(10);
    publish();
    now = at(10) - 5 * 3_600_000;
    expect(publish()).toBe("k10");
    await readAndProve();
    expect(publish()).toBe("k10");
    expect(warnings).toEqual([expect.stringContaining("clock is behind")]);
    expect(states()).toEqual(["active", "retired"]);
  });

  it("the active KEK stays the published KEK while another is due, also after a restart", async () => {
    expect([states(), report()]).toMatchObject([
      ["standby", "due"],
      { publishedKeyId: null, activeKeyId: null, dueKeyId: "k1" },
    ]);
    publish();
    expect([states(), report().dueKeyId]).toEqual([["standby", "active"], null]);
    for (const restart of [() => undefined, build]) {
      restart();
      await readAndProve();
      now = at(10);
      expect([states(), report()]).toMatchObject([
        ["due", "active"],
        { publishedKeyId: "k1", activeKeyId: "k1", dueKeyId: "k10", heldBack: null },
      ]);
    }
    publish();
    expect([states(), report()]).toMatchObject([
      ["active", "retired"],
      { publishedKeyId: "k10", activeKeyId: "k10", dueKeyId: null },
    ]);
  });

  it("the active KEK stays while the switch cannot be recorded, unless it is the first KEK", async () => {
    full = true;
    expect(publish()).toBe("k1");
    full = false;
    build();
    await readAndProve();
    publish();
    [full, now] = [true, at(10)];
    for (const restart of [() => undefined, build]) {
      restart();
      await readAndProve();
      expect(publish()).toBe("k1");
      expect(heldBack()).toMatch(/k10 is due but not activated: .*cannot record KEK k10: no space/);
      expect(report()).toMatchObject({
        publishedKeyId: "k1",
        heldBack: expect.stringContaining("k10") as string,
      });
    }
    full = false;
    expect(publish()).toBe("k10");
    expect(heldBack()).toBeUndefined();
  });

  it("the active KEK is recorded by a later Status if the first could not record it", async () => {
    await readAndProve();
    full = true;
    expect([publish(), saved]).toEqual(["k1", undefined]);
    full = false;
    expect([publish(), saved?.keyId]).toEqual(["k1", "k1"]);
  });

  it("the active KEK stays with the later KEK after a restart with the clock behind", async () => {
    now = at(10);
    publish();
    now = at(2);
    build();
    await readAndProve();
    expect(publish()).toBe("k10");
    expect(warnings).toEqual([expect.stringContaining("clock is behind")]);
  });

  it("the active KEK changes only once the token was checked after the activation", () => {
    checkedAt = at(5);
    publish();
    now = at(12);
    expect(publish()).toBe("k1");
    expect(heldBack()).toBeUndefined();
    checkedAt = at(11);
    expect(publish()).toBe("k10");
  });

  it("the active KEK is not reported as gone while a token that may hold it has not been read", async () => {
    now = at(10);
    publish();
    unread = new KmsError("HSM_UNAVAILABLE", "token 2 has not been read since the start");
    hsm.records = [generation(1)];
    build();
    await readAndProve();
    expect(() => publish()).toThrow(/k10 is on no token that could be read; token 2 has not been read/);
    hsm.records = [];
    saved = undefined;
    build();
    await readAndProve();
    expect(() => publish()).toThrow(unread);
    unread = undefined;
    expect(() => publish()).toThrow(/holds no KEK/);
  });

  it("the active KEK is never an earlier KEK when the one published before a restart is gone", async () => {
    now = at(10);
    publish();
    hsm.records = [generation(1)];
    build();
    await readAndProve();
    expect(() => publish()).toThrow(/k10 is gone from the token, and .* is an earlier one/);
    hsm.records = [generation(1), generation(11)];
    now = at(11);
    await readAndProve();
    expect(publish()).toBe("k11");
  });

  it("the active KEK is never a different key with the activation of the KEK published before", async () => {
    publish();
    hsm.records = [generation(1, "impostor")];
    build();
    await readAndProve();
    expect(() => publish()).toThrow(/impostor.*k1/);
  });

  it("a standby KEK that fails its self-test does not become active, and the reason is shown", async () => {
    hsm.broken.add("k20");
    publish();
    hsm.records = [generation(1), generation(20)];
    await readAndProve();
    now = at(20);
    expect(publish()).toBe("k1");
    expect(heldBack()).toMatch(/k20.*not activated.*broken/);
    expect(report()).toMatchObject({
      activeKeyId: "k1",
      publishedKeyId: "k1",
      heldBack: expect.stringContaining("k20") as string,
      keys: [
        { keyId: "k20", state: "standby", failure: expect.stringContaining("broken") as string },
        { state: "active" },
      ],
    });
    hsm.broken.clear();
    await readAndProve();
    expect(publish()).toBe("k20");
    expect(heldBack()).toBeUndefined();
  });

  it("the active KEK stays the same after a restart while the due KEK fails its self-test", async () => {
    publish();
    hsm.broken.add("k10");
    now = at(10);
    build();
    await readAndProve();
    expect(publish()).toBe("k1");
    expect(heldBack()).toMatch(/k10.*not activated/);
    saved = undefined;
    build();
    await readAndProve();
    expect(() => publish()).toThrow(/k10 is broken/);
  });

  it("the active KEK does not change while the HSM is away", () => {
    publish();
    away = true;
    now = at(10);
    expect(publish()).toBe("k1");
    away = false;
    expect(publish()).toBe("k10");
  });

  it("the active KEK does not fall back to a retired KEK when the active one is gone", async () => {
    now = at(10);
    publish();
    hsm.records = [generation(1)];
    await readAndProve();
    expect(() => publish()).toThrow(/k10 is gone from the token/);
  });
});

describe("with approvals", () => {
  const restart = async (...keyIds: string[]): Promise<void> => {
    forbidden = new Set(keyIds);
    build();
    await readAndProve();
  };

  it("a node keeps the published KEK while the due one is not approved, and gives the reason", async () => {
    await restart("k10");
    expect(publish()).toBe("k1");
    now = at(11);
    expect(publish()).toBe("k1");
    expect(heldBack()).toBe("KEK k10 is due but not activated: not approved");
    forbidden?.clear();
    expect(publish()).toBe("k10");
    expect(heldBack()).toBeUndefined();
  });

  it("a node activates an approved KEK although a later one is not approved", async () => {
    hsm.records = [generation(1), generation(10), generation(11, "rogue")];
    await restart("rogue");
    expect(publish()).toBe("k1");
    now = at(12);
    expect(publish()).toBe("k10");
    expect(heldBack()).toMatch("KEK rogue is due but not activated");
  });

  it("a node keeps the KEK published before a restart although it is not approved", async () => {
    publish();
    await restart("k1", "k10");
    now = at(12);
    expect(publish()).toBe("k1");
  });

  it("a node without memory starts with the latest approved KEK", async () => {
    now = at(12);
    await restart("k10");
    expect(publish()).toBe("k1");
    expect(heldBack()).toMatch("k10");
  });

  it("a node without memory and approval says why no KEK is active", async () => {
    await restart("k1", "k10");
    expect(publish).toThrow("KEK k1 is due but not activated: not approved");
  });
});
