// Which configuration file is read: --config, $KMS_PKCS11_CONFIG, the default file, or none.
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { locateConfiguration } from "../../src/config/location.js";
import { useConfigurationFile } from "./configuration-file.js";
import { messageOf } from "./message-of.js";

const file = useConfigurationFile();
const env = { KMS_PKCS11_CONFIG: "/srv/kms.yaml" };

it("--config comes before the environment, and both before the default file", () => {
  writeFileSync(file.path, "");
  expect(locateConfiguration({ config: "c.yaml" }, env, file.path)).toEqual({
    path: "c.yaml",
    source: "--config",
  });
  expect(locateConfiguration({}, env, file.path)).toEqual({
    path: "/srv/kms.yaml",
    source: "$KMS_PKCS11_CONFIG",
  });
  for (const unset of [{}, { KMS_PKCS11_CONFIG: "" }]) {
    expect(locateConfiguration({}, unset, file.path)).toEqual({ path: file.path, source: "default" });
  }
});

it("with --key, a configuration file is read only if it is named", () => {
  writeFileSync(file.path, "");
  expect(locateConfiguration({ key: "pkcs11:" }, {}, file.path)).toBeUndefined();
  expect(locateConfiguration({ key: "pkcs11:" }, env, file.path)?.path).toBe("/srv/kms.yaml");
});

it("without a configuration file, the error names every way to give one", () => {
  expect(existsSync(file.path)).toBe(false);
  expect(messageOf(() => locateConfiguration({}, {}, file.path))).toBe(
    `no configuration: ${file.path} does not exist; create it, name another file with --config or $KMS_PKCS11_CONFIG, or name the KEK with --key`,
  );
  expect(messageOf(() => locateConfiguration({ keyFlag: "--kek" }, {}, file.path))).toContain("with --kek");
});

it("a default file that cannot be examined is chosen, so that reading it reports why", () => {
  const loop = join(file.directory, "x".repeat(300));
  expect(locateConfiguration({}, {}, loop)).toEqual({ path: loop, source: "default" });
});
