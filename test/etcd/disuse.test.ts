// What a usage report must show before a KEK may be destroyed.

import { describe, expect, it } from "vitest";
import { KmsError } from "../../src/errors.js";
import { requireUnused, type DisuseQuestion, type NamedReport } from "../../src/etcd/disuse.js";
import type { UsageReport } from "../../src/etcd/usage-report.js";

const NOW = Date.parse("2026-11-21T12:00:00Z");
const HOUR = 3_600_000;
const QUESTION: DisuseQuestion = {
  keyIds: ["retired", "alias"],
  others: [],
  settledAt: NOW - 2 * HOUR,
  now: NOW,
  maxAgeMs: HOUR,
  prefix: "/registry",
  clusterIds: [],
};
const usage = (changes: Partial<UsageReport["usages"][number]> = {}): UsageReport["usages"][number] => ({
  protection: "kms-v2",
  provider: "kms:v2:hsm",
  keyId: "active",
  objects: 7,
  seeds: { count: 1, isAtLeast: false },
  resources: { secrets: 7 },
  namespaces: { count: 1, isAtLeast: false },
  oldestRevision: 1,
  newestRevision: 9,
  ...changes,
});
const report = (changes: Partial<UsageReport> = {}): NamedReport => ({
  name: "usage.json",
  report: {
    apiVersion: "kms-pkcs11.dev/v1",
    kind: "UsageReport",
    toolVersion: "0",
    startedAt: new Date(NOW - HOUR / 2).toISOString(),
    finishedAt: new Date(NOW - HOUR / 2).toISOString(),
    source: { kind: "etcd", endpoints: ["e:1"], clusterId: "c1", etcdVersion: "3.6.0" },
    prefix: "/registry/",
    revisions: { first: 9, last: 9 },
    objects: 7,
    usages: [usage()],
    plaintextToEncrypt: null,
    unreadable: [],
    ...changes,
  },
});
const snapshot = report({ source: { kind: "snapshot", sha256: "0".repeat(64) } });
const of = (clusterId: string): NamedReport =>
  report({ source: { kind: "etcd", endpoints: ["e:1"], clusterId, etcdVersion: "3.6.0" } });
const at = (ms: number): NamedReport => report({ startedAt: new Date(ms).toISOString() });

const objection = (reports: readonly NamedReport[], changes: Partial<DisuseQuestion> = {}): string => {
  try {
    return `accepted: ${requireUnused(reports, { ...QUESTION, ...changes })}`;
  } catch (error) {
    if (error instanceof KmsError && error.code === "TOKEN_REFUSED") return error.message;
    throw error;
  }
};

describe("a usage report as evidence that a KEK is unused", () => {
  it("a usage report counts if it is late, covers everything and shows no object under the KEK", () => {
    expect(objection([report()])).toBe(
      "accepted: no object is under it: usage.json (cluster c1, 7 objects, 2026-11-21T11:30:00.000Z)",
    );
    expect(objection([report(), snapshot], { clusterIds: ["c1"] })).toMatch(/^accepted/);
    expect(objection([report(), of("c2")], { clusterIds: ["c1", "c2"] })).toMatch(/^accepted/);
  });

  it("a KEK without a fingerprint is kept if objects are under a key_id that it may have had", () => {
    const id = "0a".repeat(16);
    const under = (keyId: string): NamedReport => report({ usages: [usage({ keyId })] });
    const earlier = `${id}.c${"1".repeat(32)}`;
    expect(objection([under(earlier)], { keyIds: [`${id}.n`] })).toContain(
      `7 objects are under ${earlier}, which may be an earlier key_id of the same KEK (secrets)`,
    );
    expect(objection([under(earlier)], { keyIds: [`${id}.c${"2".repeat(32)}`] })).toMatch(/^accepted/);
    expect(objection([under(earlier)], { keyIds: [`${"0b".repeat(16)}.n`] })).toMatch(/^accepted/);
    expect(objection([under(earlier)], { keyIds: [`${id}.n`], others: [earlier] })).toMatch(/^accepted/);
  });

  it.each<[string, readonly NamedReport[], Partial<DisuseQuestion>]>([
    ["7 objects are under it (secrets)", [report({ usages: [usage({ keyId: "retired" })] })], {}],
    ["7 objects are under it", [report({ usages: [usage(), usage({ keyId: "alias" })] })], {}],
    ["7 objects are under it", [report(), report({ usages: [usage({ keyId: "alias" })] })], {}],
    ["cannot be read", [report({ usages: [usage({ protection: "unreadable", keyId: null })] })], {}],
    ["it covers /registry/secrets/ and not /registry/", [report({ prefix: "/registry/secrets/" })], {}],
    ["and not /k8s/", [report()], { prefix: "k8s" }],
    ["it covers cluster c1, not c2", [report()], { clusterIds: ["c2"] }],
    ["no report covers cluster c2; take one there", [report()], { clusterIds: ["c1", "c2"] }],
    ["no report covers cluster c2", [report(), snapshot], { clusterIds: ["c1", "c2"] }],
    ["it covers cluster c3, not c1 or c2", [report(), of("c2"), of("c3")], { clusterIds: ["c1", "c2"] }],
    ["it is 61 min old, and at most 60 min are allowed", [at(NOW - HOUR - 1)], {}],
    ["in the future", [at(NOW + 61_000)], {}],
    ["after 2026-11-21T11:45:00.000Z", [report()], { settledAt: NOW - HOUR / 4 }],
    ["no report is of an etcd", [snapshot], {}],
    ["no report is of an etcd", [], {}],
  ])("a usage report is refused: %s", (text, reports, changes) => {
    expect(objection(reports, changes)).toMatch(/^nothing was destroyed:\n/);
    expect(objection(reports, changes)).toContain(text);
  });
});
