// The settings in force: values without secrets, and where each comes from.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { settingsInForce, type EffectiveSetting } from "../../src/config/effective-settings.js";
import { OPTIONS_IN_ORDER } from "../../src/config/setting-rows.js";
import { loadConfiguration } from "../../src/config/load.js";
import type { LoadRequest } from "../../src/config/settings.js";
import { HEAD, MINIMAL, URI, useConfigurationFile } from "./configuration-file.js";

const file = useConfigurationFile();

const inForce = (
  yaml: string,
  request: Partial<LoadRequest> = {},
): ReadonlyMap<string, Omit<EffectiveSetting, "setting">> => {
  writeFileSync(file.path, yaml, { mode: 0o600 });
  const configuration = loadConfiguration({
    configPath: file.path,
    flags: {},
    env: {},
    serves: false,
    ...request,
  });
  return new Map(settingsInForce(configuration).map(({ setting, ...row }) => [setting, row]));
};
const at = (line: number, column: number): object => ({ kind: "file", file: file.path, line, column });

it("the effective settings are every option of the schema and each token's PIN source", () => {
  const rows = inForce(`${MINIMAL}failover: [{ uri: "${URI.replace("kms;", "b;")}" }]\n`);
  // A cluster's settings are those of a document of its own.
  const options = OPTIONS_IN_ORDER.filter(({ path }) => !path.startsWith("clusters"));
  const named = options.map(({ path }) => path.replace("[]", "[0]"));
  expect(new Set(rows.keys())).toEqual(new Set([...named, "pin", "failover[0].pin"]));
});

it("each effective setting names its source: default, line and column, or flag", () => {
  const rows = inForce(`${MINIMAL}hsm:\n  hosts: 3\nlog: { level: warn }\nstateDir: /var/lib/kms\n`, {
    flags: { logLevel: "debug", socket: "/run/kms.sock" },
  });
  expect(rows.get("hsm.hosts")).toEqual({ value: 3, source: at(6, 3) });
  expect(rows.get("hsm.requestTimeout")).toEqual({ value: "2s", source: { kind: "default" } });
  expect(rows.get("log.level")).toEqual({ value: "debug", source: { kind: "flag", flag: "--log-level" } });
  expect(rows.get("socket.path")).toEqual({
    value: "/run/kms.sock",
    source: { kind: "flag", flag: "--socket" },
  });
  expect(rows.get("stateDir")).toEqual({ value: "/var/lib/kms", source: at(8, 1) });
  expect(rows.get("keys.active")).toEqual({ value: null, source: { kind: "default" } });
});

it("library and PIN source name the URI that holds them", () => {
  const rows = inForce(MINIMAL);
  expect(rows.get("keys.uri")).toEqual({ value: URI, source: at(4, 3) });
  expect(rows.get("module.path")).toEqual({ value: "/usr/lib/softhsm/libsofthsm2.so", source: at(4, 3) });
  expect(rows.get("pin")).toEqual({ value: "file /run/pin", source: at(4, 3) });
});

it("a PIN source names its setting, the environment that provides it, or the flag", () => {
  const uri = "pkcs11:token=kms;object=kms-kek?module-path=/a.so";
  const yaml = `${HEAD}keys: { uri: "${uri}" }\n`;
  expect(inForce(`${yaml}pin:\n  env: KMS_PIN\n`).get("pin")).toEqual({
    value: "environment variable KMS_PIN",
    source: at(5, 3),
  });
  expect(inForce(yaml).get("pin")).toEqual({ value: "no PIN source", source: { kind: "default" } });
  expect(inForce(yaml, { pinFromStdin: true }).get("pin")?.source).toEqual({
    kind: "flag",
    flag: "--pin-stdin",
  });
  writeFileSync(join(file.directory, "kms-pkcs11-pin"), "1234");
  expect(inForce(yaml, { env: { CREDENTIALS_DIRECTORY: file.directory } }).get("pin")).toEqual({
    value: "systemd credential kms-pkcs11-pin",
    source: { kind: "environment", variable: "CREDENTIALS_DIRECTORY" },
  });
});

it("effective settings show no secret of module parameters, and the audit key's path", () => {
  const yaml = `${MINIMAL}module: { parameters: "configdir=/etc/nss pin=hunter2" }\naudit: { file: /var/log/a }\n`;
  const rows = inForce(`${yaml}stateDir: /var/lib/kms\n`);
  expect(rows.get("module.parameters")?.value).toBe("configdir=/etc/nss pin=***");
  expect(rows.get("audit.keyFile")).toEqual({
    value: "/var/lib/kms/audit.key",
    source: { kind: "default" },
  });
  expect(JSON.stringify([...rows])).not.toContain("hunter2");
});
