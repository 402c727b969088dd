// A standby KEK that a node lacks at the decision: the run that made it destroys it in time; a run that has found it also
// requires that every node shows that it never used it.

import { afterEach, expect, it } from "vitest";
import type { Token } from "../../../src/admin/command-tokens.js";
import { destroyStandby, type DestroyingOrder } from "../../../src/admin/rotation/destroy.js";
import { loadSettings } from "../../../src/config/load.js";
import type { KekRecord } from "../../../src/hsm/port.js";
import { labelOf } from "../../../src/provider/kek-label.js";
import { kekRecord } from "../../support/kek-record.js";
import { ACTIVE, FakeNodes, standby, type KeysAnswer } from "../../support/fake-nodes.js";
import { silentOperator } from "../../support/operator.js";

const HOUR_MS = 3_600_000;
const settings = loadSettings({
  flags: { key: "pkcs11:token=kms;object=kms-kek?module-path=/nowhere.so&pin-source=file:/nowhere" },
  env: {},
  serves: false,
});
const nodes = new FakeNodes();

afterEach(() => {
  nodes.close();
});

const made: KekRecord = {
  ...kekRecord(labelOf("kms-kek", Math.ceil(Date.now() / 1000) * 1000 + HOUR_MS), "s"),
  // A UUIDv7 of now: the node's memory is older.
  ckaId: `${Date.now().toString(16).padStart(12, "0")}70008000000000000000`,
};

/** Destroys the KEK, with a node that answers this. Returns the error's message and the KEKs that are left. */
async function destroyWith(answer: Partial<KeysAnswer>, isOurs: boolean): Promise<[string, string[]]> {
  let kept: KekRecord[] = [made, kekRecord("kms-kek", "a")];
  const hsm = {
    listKeks: () => Promise.resolve(kept),
    listKeksReloaded: () => Promise.resolve(kept),
    destroy: ({ keyId }: KekRecord) => {
      kept = kept.filter((one) => one.keyId !== keyId);
      return Promise.resolve(1);
    },
  } as unknown as Token["hsm"];
  const order: DestroyingOrder = {
    settings,
    nodes: [await nodes.node(answer)],
    operator: silentOperator(),
    approve: () => Promise.resolve({}),
    proof: {
      lost: undefined,
      left: undefined,
      reports: () => Promise.reject(new Error("no time for a search of etcd")),
      maxAgeMs: HOUR_MS,
      prefix: "/registry/",
      clusterIds: [],
    },
    reports: [],
    confirm: () => Promise.reject(new Error("nobody is asked")),
  };
  const { message } = await destroyStandby(order, {
    tokens: [{ name: "kms", hsm, records: kept, failure: undefined, openMs: 0 }],
    kek: made,
    reason: "a node lacks it",
    window: isOurs ? { begunBy: Date.now() + HOUR_MS, endedBy: Date.now() + HOUR_MS } : undefined,
  });
  return [message, kept.map(({ keyId }) => keyId)];
}

const REMEMBERS: Partial<KeysAnswer> = { remembersSince: new Date(Date.now() - HOUR_MS).toISOString() };

it("a run destroys the KEK that it made, whatever the nodes remember", async () => {
  expect(await destroyWith({ remembersSince: null }, true)).toEqual([
    "rotation aborted, s was destroyed: a node lacks it",
    ["a"],
  ]);
});

it("a run destroys a KEK that it found, if every node shows that it never used it", async () => {
  expect(await destroyWith({ ...REMEMBERS, keys: [ACTIVE] }, false)).toEqual([
    "rotation aborted, s was destroyed: a node lacks it",
    ["a"],
  ]);
});

it("a run keeps a KEK that it found if a node uses it or may have", async () => {
  const answers: Partial<KeysAnswer>[] = [
    { remembersSince: null },
    { ...REMEMBERS, publishedKeyId: "s", keys: [standby("s"), ACTIVE] },
    { ...REMEMBERS, remembersSince: new Date(Date.now() + 60_000).toISOString() },
  ];
  for (const answer of answers) {
    const [message, kept] = await destroyWith(answer, false);
    expect(message).toMatch(/^a node lacks it; "kms-kek@\w+" \(key_id s\) was not destroyed: /);
    expect(kept).toEqual(["s", "a"]);
  }
});
