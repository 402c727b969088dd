// A running plugin for all tests of a file or group, with its own token, KEK and client. Tests share it, so each leaves
// it unchanged.

import { afterAll, beforeAll } from "vitest";

import { KmsClient } from "../../src/kms-client/kms-client.js";
import { freePort } from "./free-port.js";
import { PluginProcess, type PluginSettings } from "./plugin-process.js";
import { createSoftHsmWithKek, type SoftHsm } from "./softhsm.js";

export interface PluginFixture {
  readonly token: SoftHsm;
  readonly plugin: PluginProcess;
  /** Connected to the plugin's socket. */
  readonly client: KmsClient;
  /** Host and port of the plugin's HTTP endpoints. */
  readonly address: string;
}

/**
 * Before the tests, makes a SoftHSM token with a KEK and starts a plugin on it, with one token host, that serves HTTP
 * endpoints; after them, stops the plugin and removes everything.
 * @param settings sections of its configuration file; a function gets the plugin's folder
 */
export function usePlugin(
  settings: PluginSettings | ((folder: string) => PluginSettings) = {},
): PluginFixture {
  const made: { -readonly [Name in keyof PluginFixture]?: PluginFixture[Name] } = {};
  const need = <T>(value: T | undefined): T => {
    if (value === undefined) throw new Error("usePlugin: available only inside a test");
    return value;
  };

  beforeAll(async () => {
    const token = (made.token = createSoftHsmWithKek());
    const plugin = (made.plugin = new PluginProcess(token));
    made.address = `127.0.0.1:${await freePort()}`;
    const sections = typeof settings === "function" ? settings(plugin.folder) : settings;
    plugin.configure({ http: { address: made.address }, hsm: { hosts: 1 }, ...sections });
    await plugin.start();
    made.client = new KmsClient(plugin.socket);
  });
  afterAll(async () => {
    made.client?.close();
    await made.plugin?.stop();
    made.plugin?.remove();
    made.token?.remove();
  });

  return {
    get token() {
      return need(made.token);
    },
    get plugin() {
      return need(made.plugin);
    },
    get client() {
      return need(made.client);
    },
    get address() {
      return need(made.address);
    },
  };
}
