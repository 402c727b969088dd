// The configuration table, and that the schema speaks of what the rest of the plugin knows.
import { describe, expect, it } from "vitest";
import { parseDuration, formatDuration } from "../../src/config/duration.js";
import { nearest } from "../../src/config/nearest.js";
import { redactParameters } from "../../src/config/redact.js";
import { MECHANISM_SETTINGS } from "../../src/config/schema.js";
import { settingRows } from "../../src/config/setting-rows.js";
import { MECHANISM_CHOICES } from "../../src/hsm/mechanisms.js";
import fc from "fast-check";

describe("settingRows", () => {
  const rows = settingRows();

  it("names every option once, with a default, a range and a reason", () => {
    expect(new Set(rows.map(({ path }) => path)).size).toBe(rows.length);
    for (const row of rows) {
      expect(row.description.length, row.path).toBeGreaterThan(10);
      expect(row.range, row.path).not.toBe("");
      expect(row.default, row.path).not.toBe("");
    }
  });

  it("gives defaults as they are written", () => {
    const defaults = Object.fromEntries(rows.map((row) => [row.path, row.default]));
    expect(defaults).toEqual({
      apiVersion: "required",
      kind: "required",
      "socket.path": "none",
      "socket.mode": "0600",
      "socket.group": "none",
      "socket.allowAbstract": "false",
      "keys.uri": "required",
      "keys.active": "none",
      "keys.allowUnprotected": "[]",
      "keys.refreshInterval": "30s",
      "module.path": "none",
      "module.parameters": "none",
      "pin.file": "none",
      "pin.env": "none",
      "pin.credential": "none",
      "pin.unlock": "none",
      "failover[].uri": "required",
      "failover[].module.path": "none",
      "failover[].module.parameters": "none",
      "failover[].pin.file": "none",
      "failover[].pin.env": "none",
      "failover[].pin.credential": "none",
      "failover[].pin.unlock": "none",
      mode: "direct",
      mechanism: "auto",
      "localKek.maxAge": "24h",
      "localKek.maxUses": "1048576",
      "cache.entries": "1000",
      "cache.ttl": "1h",
      "hsm.requestTimeout": "2s",
      "hsm.hosts": "2",
      "hsm.sessions": "16",
      "hsm.queue": "1000",
      "hsm.startTimeout": "30s",
      "hsm.allowFinalTry": "false",
      "health.outageGracePeriod": "10m",
      "health.onHsmLoss": "stopWrites",
      "health.proofInterval": "30s",
      "http.address": "off",
      stateDir: "none",
      "audit.file": "none",
      "audit.keyFile": "none",
      "audit.maxMebibytes": "100",
      "audit.keep": "10",
      "audit.required": "false",
      "log.level": "info",
    });
  });
});

it("mechanism offers what the mechanism table has", () => {
  expect(MECHANISM_SETTINGS).toEqual(["auto", ...MECHANISM_CHOICES]);
});

describe("durations", () => {
  it.each([
    ["500ms", 500],
    ["2s", 2000],
    ["10m", 600_000],
    ["1h30m", 5_400_000],
    ["1m500ms", 60_500],
    ["0s", 0],
  ])("reads %s", (text, ms) => {
    expect(parseDuration(text)).toBe(ms);
  });

  it.each(["", "10", "1.5h", "1d", "-1s", "1s1m", "1 s", "1S", "1s\n", "9".repeat(10) + "s"])(
    "does not read %j",
    (text) => {
      expect(parseDuration(text)).toBeUndefined();
    },
  );

  it("are read back as they were formatted", () => {
    fc.assert(fc.property(fc.nat({ max: 10 ** 12 }), (ms) => parseDuration(formatDuration(ms)) === ms));
  });
});

describe("nearest", () => {
  it.each([
    ["tokn", "token"],
    ["Token", "token"],
    ["moduel-path", "module-path"],
    ["modulepath", "module-path"],
    ["xyz", undefined],
    ["", undefined],
  ])("%s means %s", (given, meant) => {
    expect(nearest(given, ["token", "module-path", "id"])).toBe(meant);
  });
});

describe("redactParameters", () => {
  it.each([
    ["password=hunter2", "password=***"],
    ['a=1 tokenPIN="hunter2 hunter2" b=2', "a=1 tokenPIN=*** b=2"],
    ["pin='hunter2", "pin=***"],
    ["pass: hunter2", "pass: ***"],
    ["user_password=(hunter2 hunter2) x=y", "user_password=*** x=y"],
    ["pw='a' PIN=hunter2\\ hunter2 z", "pw='a' PIN=*** z"],
    ["configdir='/etc/pki/nssdb' flags=readOnly", "configdir='/etc/pki/nssdb' flags=readOnly"],
  ])("%s", (parameters, redacted) => {
    expect(redactParameters(parameters)).toBe(redacted);
  });
});
