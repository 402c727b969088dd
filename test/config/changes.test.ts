// Which settings differ between two configurations.
import { writeFileSync } from "node:fs";
import { expect, it } from "vitest";
import { changedSettings, comparableSettings } from "../../src/config/changes.js";
import { loadConfiguration } from "../../src/config/load.js";
import { HEAD, MINIMAL, URI, useConfigurationFile } from "./configuration-file.js";

const file = useConfigurationFile();

const values = (yaml: string): ReadonlyMap<string, string> => {
  writeFileSync(file.path, yaml, { mode: 0o600 });
  return comparableSettings(loadConfiguration({ configPath: file.path, flags: {}, env: {}, serves: false }));
};
const changes = (before: string, after: string): string[] => changedSettings(values(before), values(after));

it("changedSettings finds no difference between two spellings of one value", () => {
  const other = `${MINIMAL}cache: { ttl: 60m }\nlog: { level: info }\nsocket: { mode: "0600" }\n`;
  expect(changes(MINIMAL, other)).toEqual([]);
  const bare = "pkcs11:object=kms-kek;token=kms";
  const sections = `${HEAD}keys: { uri: "${bare}" }\nmodule: { path: /usr/lib/softhsm/libsofthsm2.so }\npin: { file: /run/pin }\n`;
  expect(changes(MINIMAL, sections)).toEqual([]);
});

it("changedSettings names each changed setting, and PIN source and library by their own names", () => {
  const after = `${HEAD}keys:\n  uri: "${URI.replace("/run/pin", "/run/new").replace("libsofthsm2", "other")}"\n  refreshInterval: 5s\nhsm: { hosts: 3 }\n`;
  expect(changes(MINIMAL, after)).toEqual(["keys.refreshInterval", "module.path", "pin", "hsm.hosts"]);
  expect(changes(MINIMAL, MINIMAL.replace("token=kms", "token=b"))).toEqual(["keys.uri"]);
});

it("changedSettings names the settings of a token that was added or removed", () => {
  const two = `${MINIMAL}failover: [{ uri: "${URI.replace("kms;", "b;")}" }]\n`;
  for (const names of [changes(MINIMAL, two), changes(two, MINIMAL)]) {
    expect(names).toContain("failover[0].uri");
    expect(names).toContain("failover[0].pin");
    expect(names.every((name) => name.startsWith("failover[0]."))).toBe(true);
  }
});
