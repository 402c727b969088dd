// A configuration file in a temporary folder, for tests that load settings.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach } from "vitest";
import { loadSettings } from "../../src/config/load.js";
import type { LoadRequest, Settings } from "../../src/config/settings.js";

export const URI =
  "pkcs11:token=kms;object=kms-kek?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/run/pin";
export const HEAD = "apiVersion: kms-pkcs11.dev/v1\nkind: PluginConfiguration\n";
export const MINIMAL = `${HEAD}keys:\n  uri: ${URI}\n`;

export interface ConfigurationFile {
  /** The folder of the running test; removed after it. */
  readonly directory: string;
  readonly path: string;
  /** Writes the file, mode 0600, and loads the settings from it. */
  load(yaml: string | Uint8Array, request?: Partial<LoadRequest>): Settings;
}

/** Gives every test of the file a folder of its own. */
export function useConfigurationFile(): ConfigurationFile {
  let directory = "";
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "settings-"));
  });
  afterEach(() => {
    rmSync(directory, { recursive: true });
  });
  return {
    get directory() {
      return directory;
    },
    get path() {
      return join(directory, "config.yaml");
    },
    load(yaml, request = {}) {
      const configPath = join(directory, "config.yaml");
      writeFileSync(configPath, yaml, { mode: 0o600 });
      return loadSettings({ configPath, flags: {}, env: {}, serves: false, ...request });
    },
  };
}
