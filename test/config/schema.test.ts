// The configuration table, the schema's agreement with the mechanism table, durations, suggestions and redaction.
import { describe, expect, it } from "vitest";
import { parseDuration, formatDuration } from "../../src/config/duration.js";
import { redactParameters } from "../../src/config/redact.js";
import { MECHANISM_SETTINGS } from "../../src/config/schema.js";
import { settingRows } from "../../src/config/setting-rows.js";
import { similarName } from "../../src/config/similar-name.js";
import { MECHANISM_CHOICES } from "../../src/hsm/mechanisms.js";
import fc from "fast-check";

describe("settingRows", () => {
  const rows = settingRows();

  it("settingRows has every option once, with a default, a range and a description", () => {
    expect(new Set(rows.map(({ path }) => path)).size).toBe(rows.length);
    for (const row of rows) {
      expect(row.description.length, row.path).toBeGreaterThan(10);
      expect(row.range, row.path).not.toBe("");
      expect(row.default, row.path).not.toBe("");
    }
  });

  it("settingRows has the documented defaults", () => {
    const own = rows.filter(({ path }) => !path.startsWith("clusters[]."));
    const defaults = Object.fromEntries(own.map((row) => [row.path, row.default]));
    expect(defaults).toEqual({
      apiVersion: "required",
      "approvals.policy": "none",
      "approvals.root": "none",
      kind: "required",
      "socket.path": "none",
      "socket.mode": "0600",
      "socket.group": "none",
      "socket.allowAbstract": "false",
      "keys.uri": "required",
      "keys.active": "none",
      "keys.allowUnprotected": "[]",
      "keys.refreshInterval": "30s",
      "keys.cryptoperiod": "none",
      "module.path": "none",
      "module.entry": "none",
      "module.parameters": "none",
      "pin.file": "none",
      "pin.env": "none",
      "pin.credential": "none",
      "pin.custody": "none",
      "pin.unlock": "none",
      "login.role": "none",
      "admin.role": "none",
      "admin.file": "none",
      "admin.env": "none",
      "failover[].uri": "required",
      "failover[].module.path": "none",
      "failover[].module.entry": "none",
      "failover[].module.parameters": "none",
      "failover[].pin.file": "none",
      "failover[].pin.env": "none",
      "failover[].pin.credential": "none",
      "failover[].pin.custody": "none",
      "failover[].pin.unlock": "none",
      "failover[].login.role": "none",
      "failover[].admin.role": "none",
      "failover[].admin.file": "none",
      "failover[].admin.env": "none",
      mode: "direct",
      mechanism: "auto",
      "localKek.maxAge": "24h",
      "localKek.maxUses": "1048576",
      "cache.entries": "1000",
      "cache.ttl": "1h",
      "cache.outageTtl": "48h",
      "cache.remember": "true",
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
      "audit.syslog.address": "none",
      "audit.syslog.format": "json",
      "audit.syslog.facility": "authpriv",
      "audit.syslog.maxMessageBytes": "2048",
      "audit.syslog.ca": "none",
      "audit.syslog.certificate": "none",
      "audit.syslog.key": "none",
      "audit.syslog.serverName": "none",
      "audit.ocsf.file": "none",
      nodes: "[]",
      "log.level": "info",
    });
  });
});

it("the option mechanism offers auto and every mechanism of the mechanism table", () => {
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
  ])("durations are read from %s", (text, ms) => {
    expect(parseDuration(text)).toBe(ms);
  });

  it.each(["", "10", "1.5h", "1d", "-1s", "1s1m", "1 s", "1S", "1s\n", "9".repeat(10) + "s"])(
    "durations are not read from %j",
    (text) => {
      expect(parseDuration(text)).toBeUndefined();
    },
  );

  it("durations survive formatting and parsing", () => {
    fc.assert(fc.property(fc.nat({ max: 10 ** 12 }), (ms) => parseDuration(formatDuration(ms)) === ms));
  });
});

describe("similarName", () => {
  it.each([
    ["tokn", "token"],
    ["Token", "token"],
    ["moduel-path", "module-path"],
    ["modulepath", "module-path"],
    ["xyz", undefined],
    ["", undefined],
  ])("similarName suggests for %j: %s", (given, suggestion) => {
    expect(similarName(given, ["token", "module-path", "id"])).toBe(suggestion);
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
  ])("redactParameters turns %s into %s", (parameters, redacted) => {
    expect(redactParameters(parameters)).toBe(redacted);
  });
});
