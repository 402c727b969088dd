// The format of a line of the audit log, frozen, and what its MAC detects.

import { createSecretKey } from "node:crypto";

import { describe, expect, it } from "vitest";

import { NO_MAC, verifyLine, makeLine } from "../../src/audit/line.js";
import { requestOf } from "../support/audit-files.js";

describe("a line", () => {
  const key = createSecretKey(Buffer.alloc(32, 7));
  const text =
    '{"v":1,"seq":1,"time":"2026-01-01T00:00:00.000Z","event":"request","operation":"Decrypt","uid":"ü","keyId":"k","outcome":"OK","ms":0.25,"peer":"connection 1","prev":"0000000000000000000000000000000000000000000000000000000000000000","mac":"a13a544466e28f425deaadbf7595e46968453b127b9bb4323dced789ce999dad"}';

  it("an audit line of version 1 keeps its format", () => {
    const made = makeLine(
      { time: Date.UTC(2026, 0, 1), event: requestOf("ü") },
      { seq: 0, mac: NO_MAC },
      key,
    );
    expect(made.text).toBe(text);
    expect(verifyLine(Buffer.from(text), key)).toMatchObject({ seq: 1, prev: NO_MAC, mac: made.mac });
  });

  it("an audit line does not verify with a changed bit or under another key", () => {
    for (let at = 0; at < Buffer.byteLength(text); at++) {
      const bytes = Buffer.from(text);
      bytes[at] = (bytes[at] ?? 0) ^ (1 << (at % 8));
      expect(verifyLine(bytes, key), String(at)).toBeUndefined();
    }
    expect(verifyLine(Buffer.from(text), createSecretKey(Buffer.alloc(32, 8)))).toBeUndefined();
    for (const other of ["", "{}", `${text}\r`, ` ${text}`]) {
      expect(verifyLine(Buffer.from(other), key)).toBeUndefined();
    }
  });
});
