// `keys destroy` decides after its prompt and its census, regardless of what was true before. The tokens are fakes, and
// the clock moves while the operator is prompted.

import { afterEach, beforeEach, expect, it, vi } from "vitest";

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

function token(): Token {
  const list = (): Promise<readonly KekRecord[]> => Promise.resolve([...records]);
  const hsm = {
    listKeks: list,
    listKeksReloaded: list,
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
    records: [...records],
    failure: undefined,
    openMs: 0,
  };
}

const report = (startedAt: number): NamedReport => ({
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
    usages: [],
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
      return Promise.resolve(true);
    },
    begin: () => Promise.resolve(void steps.push("record")),
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
