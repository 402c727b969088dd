// The choice of the active KEK over a fake HSM, with a clock, an outage and a memory that a test sets.

import type { KmsError } from "../../src/errors.js";
import type { ActivationGate } from "../../src/provider/activation-gate.js";
import { ActiveKey } from "../../src/provider/active-key.js";
import { KeyMemory, type Published } from "../../src/provider/key-memory.js";
import { reportKeyring, reportKeys, type KeyringReport } from "../../src/provider/key-report.js";
import { labelOf } from "../../src/provider/kek-label.js";
import { Keyring } from "../../src/provider/keyring.js";
import { Prover } from "../../src/provider/prover.js";
import { FakeHsm, SILENT } from "./fake-hsm.js";
import { kekRecord } from "./kek-record.js";

/** Returns an instant of the tests' minute, in ms since the epoch. */
export const at = (second: number): number => Date.UTC(2026, 10, 21, 10, 0, second);

/** Returns the record of a KEK that is active from that second on. */
export const generation = (second: number, keyId = `k${second}`): ReturnType<typeof kekRecord> =>
  kekRecord(labelOf("kms-kek", at(second)), keyId);

/** An ActiveKey, and what it depends on. Before each test, the token holds k1 and k10, and it is second 5. */
export class ActiveKeyStage {
  readonly hsm = new FakeHsm();
  now = at(5);
  away = false;
  checkedAt: number | undefined;
  /** The memory that outlives a restart; nothing can be saved while it is full. */
  saved: Published | undefined;
  full = false;
  unread: KmsError | undefined;
  /** Key_ids that must not become active; undefined without a policy. */
  forbidden: Set<string> | undefined;
  warnings: string[] = [];
  active!: ActiveKey;
  #keyring!: Keyring;
  #prover!: Prover;

  constructor() {
    this.hsm.records = [generation(1), generation(10)];
    this.build();
  }

  /** Builds all parts again, as after a restart. */
  readonly build = (): void => {
    const { hsm } = this;
    const policy = { objectName: "kms-kek", allowUnprotected: [] };
    this.#keyring = new Keyring({
      ...{ hsm, requestTimeoutMs: 2_000, policy, log: SILENT },
      onRead: () => undefined,
    });
    this.#prover = new Prover(hsm, "auto", SILENT);
    this.warnings = [];
    const log = { ...SILENT, warn: (_fields: object, text: string) => void this.warnings.push(text) };
    const parts = { keyring: this.#keyring, prover: this.#prover, memory: this.#memory(), log };
    this.active = new ActiveKey({
      ...{ ...parts, health: this.#health(), gate: this.#gate() },
      now: () => this.now,
    });
  };

  /** Publishes as a Status answer does, and returns the key_id. */
  readonly publish = (): string => this.active.publish().generation.record.keyId;

  chosen(): string | undefined {
    return this.active.choose().generation?.record.keyId;
  }

  heldBack(): string | undefined {
    return this.active.choose().heldBack?.message;
  }

  async readAndProve(): Promise<void> {
    await this.#prover.prove((await this.#keyring.read()).generations, this.active.published?.record.keyId);
  }

  states(): string[] {
    const parts = { keyring: this.#keyring, prover: this.#prover, active: this.active };
    return reportKeys(parts, this.now).map(({ state }) => state);
  }

  report(): KeyringReport {
    const clocks = { now: () => this.now, uptime: () => this.now };
    const store = { load: () => undefined, save: () => undefined };
    const memory = new KeyMemory({ store, log: SILENT, ...clocks });
    const parts = { keyring: this.#keyring, prover: this.#prover, active: this.active, memory };
    return reportKeyring(parts, this.now);
  }

  #memory(): { load: () => Published | undefined; save: (published: Published) => void } {
    return {
      load: () => this.saved,
      save: (published) => {
        if (this.full) throw Object.assign(new Error("no space"), { code: "ENOSPC" });
        this.saved = published;
      },
    };
  }

  #health(): { isOutage: boolean; unread: KmsError | undefined; checkedAt: number | undefined } {
    const read = (): ActiveKeyStage => this;
    return {
      get isOutage() {
        return read().away;
      },
      get unread() {
        return read().unread;
      },
      get checkedAt() {
        return read().checkedAt;
      },
    };
  }

  #gate(): ActivationGate | undefined {
    return (
      this.forbidden && {
        problem: undefined,
        refusalOf: ({ record }) => (this.forbidden?.has(record.keyId) === true ? "not approved" : undefined),
      }
    );
  }
}

/** Returns a stage whose keys have been read and proven. */
export async function stageActiveKey(): Promise<ActiveKeyStage> {
  const stage = new ActiveKeyStage();
  await stage.readAndProve();
  return stage;
}
