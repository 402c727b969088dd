// OCSF events against the schema's own definitions (ocsf-schema.json is an excerpt of version 1.5.0): every kind of line, with
// every outcome and operation, whole or shortened, and whatever a stranger has written into the file.

import fc from "fast-check";
import { expect, it } from "vitest";

import type { AuditEvent } from "../../../src/audit/line.js";
import { fieldsOf } from "../../../src/audit/sinks/line-fields.js";
import { readLine } from "../../../src/audit/sinks/line-reader.js";
import { ocsfEvent } from "../../../src/audit/sinks/ocsf.js";
import { shortOcsf } from "../../../src/audit/sinks/short-ocsf.js";
import { ocsfOmissions, ocsfProblems } from "../../support/ocsf-schema.js";

const SENDER = { host: "cp-1", version: "1.2.3" };
const PREV = "0".repeat(64);
const MAC = "f".repeat(64);

const request = {
  event: "request",
  operation: "Decrypt",
  uid: "u-1",
  keyId: "k",
  ms: 1.5,
  peer: "c 1",
} as const;
const operator = { uid: 0, user: "root", loginUid: 1000, host: "admin-1", pid: 7 };
const life = { version: "1.2.3", socket: "/run/kms.sock", mode: "600", pid: 7 } as const;

/** Every kind of event, with the outcomes that it may have. */
const EVENTS: Readonly<Record<AuditEvent["event"], readonly AuditEvent[]>> = {
  request: [
    { ...request, outcome: "OK", userAgent: "grpc-go/1.80" },
    { ...request, operation: "Encrypt", outcome: "OK" },
    { event: "request", operation: "Status", healthz: "ok", outcome: "OK", ms: 0, peer: "c 2" },
    ...["INVALID_ARGUMENT", "NOT_FOUND", "UNAVAILABLE", "INTERNAL"].map((outcome) => ({
      ...request,
      outcome,
    })),
  ],
  operator: [
    ...[
      "keys create",
      "keys adopt",
      "keys rotate",
      "keys destroy",
      "etcd get",
      "custody renew",
      "custody split",
    ].map((operation) => ({
      event: "operator" as const,
      operation,
      outcome: "begun",
      operator,
      reason: "yearly",
    })),
    { event: "operator", operation: "approvals deliver", outcome: "ok", operator, details: { nodes: 3 } },
    ...["ok", "list-failed", "PEER_UNREACHABLE"].map((outcome) => ({
      event: "operator" as const,
      operation: "etcd recover",
      outcome,
      operator,
      details: { run: "0a1b2c3d4e5f6071", end: true, deleted: 2, gone: 1, left: 0 },
    })),
    {
      event: "operator",
      operation: "etcd recover",
      outcome: "gone",
      operator,
      details: { key: "/registry/a" },
    },
    { event: "operator", operation: "keys destroy", keyId: "k", outcome: "KEK_IN_USE", operator: {} },
  ],
  share: [
    "accepted",
    "foreign",
    "outdated",
    "newer",
    "altered",
    "duplicate",
    "stale",
    "unreadable",
    "expired",
  ].map((outcome) => ({ event: "share", outcome, set: "0a1b2c3d", epoch: 2, share: 1 })),
  started: [{ event: "started", ...life }],
  stopped: [{ event: "stopped", ...life }],
  locked: [{ event: "locked" }],
  unlocked: [{ event: "unlocked" }],
  gap: [{ event: "gap", lost: 3, since: "2026-01-02T03:04:05.678Z", reason: "ENOSPC" }],
  rotated: [{ event: "rotated", from: "audit.log.1", oldest: 1 }],
  missing: [{ event: "missing", first: 3, last: 5 }],
  recovered: [{ event: "recovered", bytes: 12 }],
  restarted: [{ event: "restarted", reason: "the line before does not verify" }],
};

const lineOf = (event: AuditEvent, seq = 1) => ({
  v: 1,
  seq,
  time: "2026-01-02T03:04:05.678Z",
  ...event,
  prev: PREV,
  mac: MAC,
});
const LINES = Object.values(EVENTS)
  .flat()
  .map((event, at) => lineOf(event, at + 1));
const unreadable = fieldsOf(readLine(Buffer.from("not a line")));

const validate = (json: string): string[] => ocsfProblems(JSON.parse(json) as Record<string, unknown>);

it.each([...LINES, unreadable])("$event $operation $outcome is a valid OCSF event", (line) => {
  expect(ocsfProblems(ocsfEvent(line, SENDER))).toEqual([]);
});

it("an OCSF event omits only recommended attributes for which its audit line has no value", () => {
  const omitted = (line: AuditEvent | undefined): string[] =>
    ocsfOmissions(ocsfEvent(lineOf(line as AuditEvent), SENDER));
  const always = ["observables", "metadata.original_time", "metadata.tenant_uid", "metadata.product.uid"];
  expect(omitted(EVENTS.started[0]).sort()).toEqual(
    [...always, "app.uid", "status_code", "status_detail"].sort(),
  );
  const unknown = /^(src_endpoint|dst_endpoint|resources|actor|api|http_request|http_response)\b/;
  expect(
    omitted({ ...request, outcome: "NOT_FOUND", userAgent: "a", healthz: "b" })
      .filter((name) => !unknown.test(name))
      .sort(),
  ).toEqual(always.sort());
});

it("every text and number of an audit line is in its OCSF event", () => {
  const leaves = (value: unknown): unknown[] =>
    typeof value === "object" && value !== null ? Object.values(value).flatMap(leaves) : [value];
  for (const line of LINES) {
    const held = new Set(leaves(ocsfEvent(line, SENDER)));
    const { time, ...rest } = line;
    expect(leaves(rest).filter((value) => !held.has(value))).toEqual([]);
    expect(held.has(Date.parse(time))).toBe(true);
  }
});

it("an OCSF event's source is the operator's machine; an operator without a name is no user", () => {
  const [, , , destroy] = EVENTS.operator;
  expect(ocsfEvent(lineOf(destroy as AuditEvent), SENDER)).toMatchObject({
    src_endpoint: { hostname: "admin-1" },
    actor: { app_name: "kms-pkcs11", user: { name: "root", uid: "0" } },
  });
  expect(ocsfEvent({ ...lineOf(destroy as AuditEvent), operator: { user: 5 } }, SENDER)["actor"]).toEqual({
    app_name: "kms-pkcs11",
  });
});

it("a shortened OCSF event is still valid, and says that it was shortened", () => {
  const long = "é".repeat(2000);
  for (const host of ["cp-1", "h".repeat(255)]) {
    for (const line of [...LINES, unreadable]) {
      const longer = Object.fromEntries(
        Object.entries(line).map(([name, value]) => [
          name,
          name === "reason" || name === "keyId" ? long : value,
        ]),
      );
      const text = shortOcsf({ ...longer, details: { long } }, { host, version: "1.2.3" }, 560);
      expect(validate(text)).toEqual([]);
      expect(text.length).toBeLessThanOrEqual(560);
      expect(JSON.parse(text)).toMatchObject({ unmapped: { shortened: true } });
    }
  }
});

it("whatever a stranger writes into the log becomes a valid OCSF event within the limit", () => {
  const names = fc.constantFrom(...new Set(LINES.flatMap((line) => Object.keys(line))), "__proto__", "x");
  const strange = fc
    .dictionary(names, fc.oneof(fc.jsonValue({ maxDepth: 2 }), fc.string({ maxLength: 400 })))
    .map((fields) => JSON.stringify({ seq: 1, event: "operator", ...fields }));
  const real = fc
    .tuple(fc.constantFrom(...LINES), strange)
    .map(([line, more]) =>
      JSON.stringify({ ...line, ...(JSON.parse(more) as object), event: line.event, seq: line.seq }),
    );
  fc.assert(
    fc.property(fc.oneof(strange, real), fc.constantFrom(560, 2048, 65_536), (text, max) => {
      const json = shortOcsf(fieldsOf(readLine(Buffer.from(text))), SENDER, max);
      expect(validate(json)).toEqual([]);
      expect(json).toMatch(/^[\x20-\x7e]*$/);
      expect(json.length).toBeLessThanOrEqual(max);
    }),
    { numRuns: 300 },
  );
});
