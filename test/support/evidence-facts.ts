// Facts for a folder of evidence, without a token; `name` stands in every text that others write.

import type { DrillReport } from "../../src/evidence/drill-report.js";
import type { EvidenceFacts } from "../../src/evidence/facts.js";

const COLLECTED = Date.UTC(2026, 10, 1);
const DAY_MS = 86_400_000;
const isoBefore = (days: number): string => new Date(COLLECTED - days * DAY_MS).toISOString();

/** Returns two KEKs, a rotation, requests, a census, a verification and a drill. */
export function evidenceFacts(name = "kek"): EvidenceFacts {
  const kek = { label: name, kind: "AES-256", tokens: ["token"] };
  const operator = { uid: 1000, user: "alice", host: "cp-1" };
  const event = { event: "operator", operation: "keys rotate", outcome: "ok", reason: name, operator };
  return {
    collectedAt: new Date(COLLECTED),
    host: "cp-1",
    cryptoperiodMs: 90 * DAY_MS,
    keys: {
      keys: [
        { ...kek, keyId: `${name}.2`, state: "active", activation: isoBefore(100), findings: [name] },
        { ...kek, keyId: `${name}.1`, state: "retired", activation: isoBefore(200), findings: [] },
      ],
      problem: null,
    },
    findings: [{ group: "Keys", verdict: "warn", subject: "active key", detail: name }],
    audit: {
      report: {
        files: ["/var/log/audit.log"],
        lines: 2,
        first: { seq: 1, time: isoBefore(100) },
        last: { seq: 2, time: isoBefore(1) },
        problems: [],
        remarks: [{ file: name, line: 1, problem: name }],
      },
      extract: {
        events: [JSON.stringify({ v: 1, seq: 1, time: isoBefore(100), ...event })],
        omitted: 0,
        requests: [{ month: "2026-10", operation: "Decrypt", keyId: name, outcome: "OK", count: 12 }],
      },
    },
    usage: {
      apiVersion: "kms-pkcs11.dev/v1",
      kind: "UsageReport",
      toolVersion: "1.2.3",
      startedAt: isoBefore(1),
      finishedAt: isoBefore(1),
      source: { kind: "etcd", endpoints: [], clusterId: "1", etcdVersion: "3.6.0" },
      prefix: "/registry/",
      revisions: { first: 1, last: 1 },
      objects: 2000,
      usages: [
        {
          protection: "kms-v2",
          provider: name,
          keyId: name,
          objects: 2000,
          seeds: null,
          resources: { secrets: 2000 },
          namespaces: { count: 1, isAtLeast: false },
          oldestRevision: 1,
          newestRevision: 1,
        },
      ],
      plaintextToEncrypt: null,
      unreadable: [],
    },
    verification: { resources: [{ resource: name, objects: 2000, opened: 2000, failed: 0 }], failures: [] },
    drill: drillReport(name),
    versions: {
      program: "1.2.3",
      node: { node: "24.0.0", openssl: "3.5.0" },
      system: "Linux",
      modules: [{ path: `/usr/lib/${name}.so`, sha256: null }],
    },
  };
}

function drillReport(name: string): DrillReport {
  return {
    apiVersion: "kms-pkcs11.dev/v1",
    kind: "DrillReport",
    toolVersion: "1.2.3",
    host: name,
    startedAt: isoBefore(7),
    finishedAt: isoBefore(7),
    seconds: 34.5,
    passed: false,
    complete: false,
    snapshot: {
      file: name,
      bytes: 4096,
      modifiedAt: isoBefore(8),
      sha256: "ab".repeat(32),
      revision: 7,
      objects: 2000,
    },
    tokens: [{ label: name, serial: name, manufacturer: name, model: name, live: "no" }],
    keks: [{ keyId: name, objects: 2000, found: true, proven: true, detail: name }],
    resources: [{ resource: name, objects: 2000, opened: 1997, plaintext: 0, otherProvider: 0, failed: 3 }],
    failures: [{ reason: name, objects: 3, keys: [name] }],
    notProven: [],
    listed: [],
    programs: [],
    isolation: null,
    steps: [{ step: "snapshot", outcome: "passed", seconds: 0.5, detail: name }],
  };
}
