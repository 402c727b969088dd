// `keys destroy` decides after its prompt and its census, regardless of what was true before. The tokens are fakes, and
// the clock moves while the operator is prompted.

import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { destroyKek, type DestroyOrder } from "../../src/admin/destroy-kek.js";
import type { DisuseProof } from "../../src/admin/require-unneeded.js";
import type { Token } from "../../src/admin/command-tokens.js";
import { loadSettings } from "../../src/config/load.js";
import { KmsError } from "../../src/errors.js";
import type { NamedReport } from "../../src/etcd/disuse.js";
import type { UsageReport } from "../../src/etcd/usage-report.js";
import type { DestroyWindow } from "../../src/hsm/token-hsm.js";
import type { KekRecord } from "../../src/hsm/port.js";
import { labelOf } from "../../src/provider/kek-label.js";
import { silentOperator } from "../support/operator.js";
import { kekRecord } from "../support/kek-record.js";

const NOW = Date.UTC(2026, 10, 21, 12);
const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const idOf = (digit: string): string => `${digit.repeat(32)}.c${digit.repeat(16)}`;
const [OLD, ACTIVE, NEXT] = [idOf("1"), idOf("2"), idOf("3")];
const at = (ms: number, keyId: string): KekRecord => kekRecord(labelOf("kms-kek", NOW + ms), keyId);

const settings = loadSettings({
  flags: { key: "pkcs11:token=kms;object=kms-kek?module-path=/nowhere.so&pin-source=file:/nowhere" },
  env: {},
  serves: false,
});

let records: KekRecord[];
let steps: string[];
let window: DestroyWindow | undefined;

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["Date"], now: NOW });
  records = [at(-24 * HOUR_MS, OLD), at(-2 * HOUR_MS, ACTIVE), at(HOUR_MS, NEXT)];
  steps = [];
});

afterEach(() => {
  vi.useRealTimers();
});

function token(held: () => KekRecord[] = () => records): Token {
  const list = (): Promise<readonly KekRecord[]> => Promise.resolve([...held()]);
  const hsm = {
    listKeks: list,
    listKeksReloaded: list,
    findCopies: () => Promise.resolve([]),
    destroy: ({ keyId }: KekRecord, until: DestroyWindow | undefined) => {
      steps.push("destroy");
      window = until;
      records = records.filter((record) => record.keyId !== keyId);
      return Promise.resolve(1);
    },
  };
  return {
    name: "kms",
    hsm: hsm as unknown as Token["hsm"],
    records: [...held()],
    failure: undefined,
    openMs: 0,
  };
}

const report = (startedAt: number, ...usedKeyIds: string[]): NamedReport => ({
  name: "usage.json",
  report: {
    apiVersion: "kms-pkcs11.dev/v1",
    kind: "UsageReport",
    toolVersion: "0",
    startedAt: new Date(startedAt).toISOString(),
    finishedAt: new Date(startedAt).toISOString(),
    source: { kind: "etcd", endpoints: ["e:1"], clusterId: "c1", etcdVersion: "3.6.0" },
    prefix: "/registry/",
    revisions: { first: 9, last: 9 },
    objects: 0,
    usages: usedKeyIds.map((keyId) => ({
      protection: "kms-v2",
      provider: "hsm",
      keyId,
      objects: 1,
      seeds: null,
      resources: { secrets: 1 },
      namespaces: { count: 1, isAtLeast: false },
      oldestRevision: 1,
      newestRevision: 1,
    })),
    plaintextToEncrypt: null,
    unreadable: [],
  } satisfies UsageReport,
});

const disuseProofOf = (changes: Partial<DisuseProof>): DisuseProof => ({
  lost: undefined,
  left: undefined,
  reports: () => Promise.resolve([]),
  maxAgeMs: HOUR_MS,
  prefix: "/registry",
  clusterIds: [],
  ...changes,
});

/** Returns "destroyed", or the reason why nothing was destroyed. */
async function destroy(
  keyId: string,
  proof: Partial<DisuseProof>,
  meanwhile: () => void = () => undefined,
  changes: Partial<DestroyOrder> = {},
): Promise<string> {
  const order: DestroyOrder = {
    settings,
    tokens: [token()],
    reference: { kind: "key_id", text: keyId },
    nodes: [],
    proof: disuseProofOf(proof),
    confirm: () => {
      steps.push("ask");
      meanwhile();
      return Promise.resolve();
    },
    begin: () => Promise.resolve(void steps.push("record")),
    operator: silentOperator(),
    ...changes,
  };
  return destroyKek(order).then(
    ({ changes: { failure } }) => failure?.message ?? "destroyed",
    (error: unknown) => KmsError.from(error).message,
  );
}
const pass = (ms: number) => (): void => void vi.setSystemTime(Date.now() + ms);

it("keys destroy asks, decides, records its intent, and destroys", async () => {
  expect(await destroy(OLD, { lost: OLD })).toBe("destroyed");
  expect([steps, window]).toEqual([["ask", "record", "destroy"], undefined]);
});

it("keys destroy asks nobody about a KEK that it refuses", async () => {
  expect(await destroy(OLD, {})).toMatch(/nothing shows that no object is under/);
  expect(await destroy(NEXT, {})).toMatch(/to cancel it before its activation, name every node with --nodes/);
  expect(steps).toEqual([]);
});

it("keys destroy destroys nothing if the intent cannot be recorded", async () => {
  const begin = (): Promise<never> => Promise.reject(new KmsError("CONFIG_INVALID", "no audit log"));
  expect(await destroy(OLD, { lost: OLD }, undefined, { begin })).toBe("no audit log");
  expect(steps).toEqual(["ask"]);
});

it.each([
  ["has become the active one", NEXT, { lost: NEXT }, pass(HOUR_MS + 1_000), /is the active KEK/],
  ["is about to become it", NEXT, { lost: NEXT }, pass(HOUR_MS - 9_000), /is about to become active/],
  [
    "is the latest that is left",
    OLD,
    { lost: OLD },
    () => (records = records.filter(({ keyId }) => keyId !== ACTIVE)),
    /is the active KEK/,
  ],
  ["is gone", OLD, { lost: OLD }, () => (records = records.slice(1)), /no token holds a KEK/],
] as const)(
  "keys destroy keeps a KEK that %s when the question is answered",
  async (_what, keyId, proof, meanwhile, why) => {
    expect(await destroy(keyId, proof, () => void meanwhile())).toMatch(why);
    expect(steps).toEqual(["ask"]);
  },
);

it("keys destroy keeps a retired KEK whose report has become too old at the prompt", async () => {
  const proof = { reports: () => Promise.resolve([report(NOW)]), left: OLD };
  expect(await destroy(OLD, proof, pass(HOUR_MS + 1))).toMatch(/it is 61 min old/);
  vi.setSystemTime(NOW);
  expect(await destroy(OLD, proof, pass(HOUR_MS - 1))).toBe("destroyed");
});

it("keys destroy keeps a KEK that becomes active during the census", async () => {
  const reports = (): Promise<NamedReport[]> => {
    pass(HOUR_MS + 1)();
    return Promise.resolve([report(NOW)]);
  };
  expect(await destroy(NEXT, { reports })).toMatch(/is the active KEK/);
});

it("keys destroy limits when a KEK that is or may be standby somewhere may be destroyed", async () => {
  const margin = { begunBy: NOW + HOUR_MS - 10_000, endedBy: NOW + HOUR_MS - 1_000 };
  expect([await destroy(NEXT, { lost: NEXT }), window]).toEqual(["destroyed", margin]);
  records = [at(-HOUR_MS, ACTIVE), { ...at(HOUR_MS, NEXT), unprotected: ["CKA_EXTRACTABLE is true"] }];
  expect([await destroy(NEXT, { lost: NEXT }), window]).toEqual(["destroyed", margin]);
});

it("keys destroy destroys the confirmed KEK even if the reference names another by then", async () => {
  const reference = { kind: "state", text: "@standby", state: "standby" } as const;
  const later = at(2 * HOUR_MS, idOf("4"));
  const meanwhile = (): void => void (records = [...records.filter(({ keyId }) => keyId !== NEXT), later]);
  expect(await destroy(NEXT, { lost: NEXT }, meanwhile, { reference })).toMatch(/no token holds a KEK/);
  expect(records).toContain(later);
});

it("keys destroy uses the earliest label of a KEK that has several", async () => {
  records = [at(HOUR_MS, ACTIVE), at(-HOUR_MS, ACTIVE)];
  expect(await destroy(ACTIVE, { lost: ACTIVE })).toMatch(/is the active KEK/);
});

describe("a KEK whose key_id may have changed", () => {
  const CKA_ID = "1".repeat(32);
  const named = (method: string, digit = ""): string => `${CKA_ID}.${method}${digit.repeat(32)}`;
  const old = (keyId: string, more: Partial<KekRecord> = {}): KekRecord => ({
    ...at(-24 * HOUR_MS, keyId),
    ckaId: CKA_ID,
    ...more,
  });
  const byReport = (keyId: string, stored: string): Partial<DisuseProof> => ({
    left: keyId,
    reports: () => Promise.resolve([report(NOW, stored)]),
  });

  it("a key without fingerprint does not take over what is stored under a KEK's earlier key_id", async () => {
    const [kek, another] = [named("c", "5"), named("n")];
    records = [old(kek), at(-12 * HOUR_MS, another), at(-2 * HOUR_MS, ACTIVE)];
    expect(await destroy(kek, byReport(kek, another))).toMatch(/1 objects are under .*, which may be/);
  });

  it("a refused key does not take over what is stored under a KEK's earlier key_id", async () => {
    const [kek, refused] = [named("n"), named("c", "5")];
    const extractable = { unprotected: ["CKA_EXTRACTABLE is true"] };
    records = [old(kek), old(refused, extractable), at(-2 * HOUR_MS, ACTIVE)];
    expect(await destroy(kek, byReport(kek, refused))).toMatch(/1 objects are under .*, which may be/);
  });

  it("a KEK on the same token takes over what is stored under its key_id", async () => {
    const [kek, another] = [named("n"), named("c", "5")];
    records = [old(kek), at(-2 * HOUR_MS, another)];
    expect(await destroy(kek, byReport(kek, another))).toBe("destroyed");
  });

  it("a KEK is kept while objects are under the key_id that its clone has on another token", async () => {
    const [kek, shownThere] = [named("g", "5"), named("c", "6")];
    records = [old(kek), at(-2 * HOUR_MS, ACTIVE)];
    const there = [old(shownThere), at(-2 * HOUR_MS, ACTIVE)];
    const tokens = [token(), { ...token(() => there), name: "other" }];
    const proof = byReport(shownThere, kek);
    expect(await destroy(shownThere, proof, undefined, { tokens })).toMatch(
      /1 objects are under .*, which may be/,
    );
  });

  it("a KEK that may be the active one of another token is kept", async () => {
    const kek = named("n");
    records = [{ ...at(-2 * HOUR_MS, named("c", "5")), ckaId: CKA_ID }];
    const there = [{ ...at(-2 * HOUR_MS, kek), ckaId: CKA_ID }];
    const tokens = [token(), { ...token(() => there), name: "other" }];
    expect(await destroy(kek, { lost: kek }, undefined, { tokens })).toMatch(/may be the active KEK/);
  });

  it("a KEK of two keys is kept while objects are under an earlier fingerprint of the two", async () => {
    const [kek, earlier] = [named("p", "5"), named("p", "6")];
    records = [old(kek, { aliases: [named("g", "1"), named("s", "2")] }), at(-2 * HOUR_MS, ACTIVE)];
    expect(await destroy(kek, byReport(kek, earlier))).toMatch(/1 objects are under .*, which may be/);
  });
});
