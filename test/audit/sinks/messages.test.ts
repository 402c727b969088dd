// What sinks are sent for a line of the audit log: RFC 5424 and OCSF, in printable ASCII, within the receiver's limit, whatever
// a client or a stranger has written into the line.

import fc from "fast-check";
import { expect, it } from "vitest";

import { readLine } from "../../../src/audit/sinks/line-reader.js";
import { ocsfEvent } from "../../../src/audit/sinks/ocsf.js";
import { syslogMessage, type MessageFormat } from "../../../src/audit/sinks/syslog-message.js";

const OPTIONS: MessageFormat = {
  format: "json",
  facility: "authpriv",
  maxMessageBytes: 2048,
  host: "cp-1",
  version: "1.2.3",
};
const FIELDS = {
  v: 1,
  seq: 7,
  time: "2026-01-02T03:04:05.678Z",
  event: "request",
  operation: "Decrypt",
  uid: "u-1",
  keyId: "k",
  outcome: "OK",
  ms: 1.5,
  peer: "connection 1",
  userAgent: "grpc-go",
  prev: "0".repeat(64),
  mac: "f".repeat(64),
};
const HEADER =
  /^<(\d{1,3})>1 (\S+) (\S+) (\S+) (\S+) (\S+) (\[origin software="kms-pkcs11" swVersion="1\.2\.3"\]) (.*)$/;

const message = (line: unknown, options: Partial<MessageFormat> = {}): string =>
  syslogMessage(readLine(Buffer.from(typeof line === "string" ? line : JSON.stringify(line))), {
    ...OPTIONS,
    ...options,
  }).toString("latin1");
const parts = (text: string): string[] => HEADER.exec(text)?.slice(1) ?? [];
const textOf = (text: string): Record<string, unknown> =>
  JSON.parse(parts(text)[7] ?? "") as Record<string, unknown>;
const event = (line: object) => ocsfEvent({ ...FIELDS, ...line }, { host: "cp-1", version: "1.2.3" });

it("a syslog message carries the line itself, with its time, event and severity in the header", () => {
  const [priority, time, host, name, process, id, , text] = parts(message(FIELDS));
  expect([priority, time, host, name, process, id]).toEqual([
    "86",
    "2026-01-02T03:04:05.678Z",
    "cp-1",
    "kms-pkcs11",
    "-",
    "request",
  ]);
  expect(text).toBe(JSON.stringify(FIELDS));
});

it.each([
  [{ outcome: "INTERNAL" }, 84],
  [{ event: "operator", outcome: "ok" }, 85],
  [{ event: "gap" }, 84],
  [{ event: "restarted" }, 81],
])("%j has the priority %i", (line, priority) => {
  expect(message({ ...FIELDS, outcome: undefined, ...line })).toMatch(new RegExp(`^<${priority}>1 `));
});

it("control characters and byte order marks are escaped in the message's text", () => {
  const reason = '\uFEFF1\n<86>1 - evil - - - - x\r\u0000\u001b[2J\u2028\u202e] "é" 密';
  const text = message({ ...FIELDS, event: "operator", reason });
  expect(text).toMatch(/^[\x20-\x7e]+$/);
  expect(textOf(text)["reason"]).toBe(reason);
});

it("a host or an event with spaces and brackets cannot add fields to the header", () => {
  const [, , host, , , id] = parts(message({ ...FIELDS, event: 'a] b"\n<1>' }, { host: "a b]\n" }));
  expect([host, id]).toEqual(["a_b]_", 'a]_b"_<1>']);
});

it("texts of a longer message are shortened until the receiver accepts it", () => {
  const line = { ...FIELDS, event: "operator", reason: "é".repeat(3000) };
  for (const [format, mark] of [
    ["json", { shortened: true }],
    ["ocsf", { unmapped: { shortened: true } }],
  ] as const) {
    const text = message(line, { format });
    expect(text.length).toBeLessThanOrEqual(2048);
    expect(textOf(text)).toMatchObject(mark);
  }
  expect(textOf(message(line))).toMatchObject({ seq: 7, mac: FIELDS.mac });
});

it("what is not a line of an audit log is reported as unreadable, with its digest", () => {
  for (const text of ["not JSON", '{"event":"x"}', `{"seq":1,"event":{"toString":1}}`, "[".repeat(30_000)]) {
    const [priority, , , , , id, , json] = parts(message(text));
    expect([priority, id]).toEqual(["81", "unreadable"]);
    expect(JSON.parse(json ?? "")).toMatchObject({ bytes: text.length, sha256: /./ });
  }
});

it("any JSON in the file becomes one message within the limit", () => {
  const anything = fc.oneof(
    fc.json({ maxDepth: 3 }),
    fc.uint8Array({ maxLength: 3000 }).map((bytes) => Buffer.from(bytes).toString("utf8")),
    fc
      .dictionary(fc.string(), fc.jsonValue({ maxDepth: 2 }), { maxKeys: 4 })
      .map((more) => JSON.stringify({ ...FIELDS, ...more })),
  );
  fc.assert(
    fc.property(anything, fc.constantFrom("json", "ocsf"), (text, format) => {
      const sent = message(text, { format, maxMessageBytes: 1024 });
      expect(sent).toMatch(/^[\x20-\x7e]{1,1024}$/);
      JSON.parse(parts(sent)[7] ?? "");
    }),
    { numRuns: 25 },
  );
});

it.each([
  [{ operation: "Encrypt" }, 6003, 600399, { activity_name: "Encrypt", status_id: 1 }],
  [{ operation: "Status" }, 6003, 600302, { activity_name: "Read" }],
  [{ outcome: "NOT_FOUND" }, 6003, 600399, { status_id: 2, status_code: "NOT_FOUND", severity_id: 3 }],
  [{ event: "operator", operation: "keys destroy", outcome: "begun" }, 6003, 600304, { status_id: 99 }],
  [{ event: "operator", operation: "keys rotate", outcome: "ok" }, 6003, 600301, { status: "Success" }],
  [{ event: "started" }, 6002, 600203, { app: { name: "kms-pkcs11", vendor_name: "kms-pkcs11" } }],
  [{ event: "missing", operation: undefined }, 0, 99, { severity_id: 5, activity_name: "missing" }],
])("the OCSF event of %j is of class %i and type %i", (line, classUid, typeUid, rest) => {
  expect(event(line)).toMatchObject({ class_uid: classUid, type_uid: typeUid, ...rest });
});

it("an OCSF event names client, KEK, service and the line that it was made from", () => {
  expect(event({})).toMatchObject({
    time: Date.parse(FIELDS.time),
    duration: 2,
    metadata: { version: "1.5.0", sequence: 7, uid: FIELDS.mac, product: { version: "1.2.3" } },
    actor: { app_name: "grpc-go" },
    api: { operation: "Decrypt", service: { name: "KeyManagementService" }, request: { uid: "u-1" } },
    src_endpoint: { hostname: "cp-1", name: "connection 1" },
    resources: [{ uid: "k", type: "KEK" }],
    unmapped: { prev: FIELDS.prev, v: 1 },
  });
  expect(event({ event: "operator", operator: { uid: 0, user: "root" } })).toMatchObject({
    actor: { user: { name: "root", uid: "0" } },
  });
});
