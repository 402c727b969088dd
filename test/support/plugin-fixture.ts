// A plugin for all tests of a file or group, with its own token, KEK and client. Tests that share a running plugin leave
// it unchanged. Tests whose subject is starting and stopping have it made only, and start it or others on its token.

import { afterAll, afterEach, beforeAll, beforeEach } from "vitest";

import type { KmsClient } from "../../src/kms-client/kms-client.js";
import type { FaultModule } from "./fault-module.js";
import type { PluginProcess, PluginSettings } from "./plugin-process.js";
import { ReachablePlugin } from "./reachable-plugin.js";
import type { SoftHsm } from "./softhsm.js";
import { useToken, type TokenOptions } from "./token-fixture.js";
import type { TestToken } from "./token.js";

export interface PluginFixture {
  readonly token: SoftHsm;
  /** In front of the token; only with `token: { faults }`. */
  readonly fault: FaultModule;
  /** The plugin, with what it is reached by. */
  readonly own: ReachablePlugin;
  readonly plugin: PluginProcess;
  /** Connected to the plugin's socket. */
  readonly client: KmsClient;
  /** Host and port of the plugin's HTTP endpoints. */
  readonly address: string;
  /**
   * Makes another plugin, which is not started: on the same token, or on another. It is stopped and removed after the
   * test, or with the fixture if made before the tests.
   */
  add(settings?: PluginSettings, of?: { token?: TestToken; object?: string }): Promise<ReachablePlugin>;
}

export interface PluginOptions {
  /** By default, a token that holds the KEK `kms-kek`. */
  readonly token?: TokenOptions;
  /** The label of the plugin's KEK; by default, `kms-kek`. */
  readonly object?: string;
  /** Whether the plugin is started before the tests; by default, it is. */
  readonly start?: boolean;
  /** Called before the start, with the configuration written. */
  readonly prepare?: (kms: PluginFixture) => unknown;
}

/**
 * Before the tests, makes a SoftHSM token with a KEK and starts a plugin on it, with one token host, that serves HTTP
 * endpoints; after them, stops the plugin and removes everything.
 * @param settings sections of its configuration file
 */
export function usePlugin(
  settings: PluginSettings | ((kms: PluginFixture) => PluginSettings) = {},
  { token = { kek: true }, object, start = true, prepare }: PluginOptions = {},
): PluginFixture {
  const tokens = useToken(token);
  const made: ReachablePlugin[] = [];
  let madeBefore = 0;
  const make = async (on: TestToken, label = object): Promise<ReachablePlugin> => {
    const one = await ReachablePlugin.on(on, label);
    made.push(one);
    return one;
  };
  const own = (): ReachablePlugin => {
    if (made[0] === undefined) throw new Error("usePlugin: available only inside a test");
    return made[0];
  };
  const fixture: PluginFixture = {
    get token() {
      return tokens.token;
    },
    get fault() {
      return tokens.fault;
    },
    get own() {
      return own();
    },
    get plugin() {
      return own().plugin;
    },
    get client() {
      return own().client;
    },
    get address() {
      return own().address;
    },
    async add(sections = {}, of = {}) {
      const other = await make(of.token ?? tokens.front, of.object);
      other.configure(sections);
      return other;
    },
  };

  beforeAll(async () => {
    const first = await make(tokens.front);
    first.configure(typeof settings === "function" ? settings(fixture) : settings);
    await prepare?.(fixture);
    if (start) await first.start();
  });
  beforeEach(() => {
    madeBefore = made.length;
  });
  afterEach(async () => {
    await Promise.all(made.splice(madeBefore).map((one) => one.remove()));
  });
  afterAll(async () => {
    await Promise.all(made.splice(0).map((one) => one.remove()));
  });
  return fixture;
}
