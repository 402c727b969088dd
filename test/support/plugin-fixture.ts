// A plugin for all tests of a file or group, with its own token, KEK and client. Tests that share a running plugin leave
// it unchanged. Tests whose subject is starting and stopping have it made only, and start it or others on its token.

import { afterAll, afterEach, beforeAll, beforeEach } from "vitest";

import type { KmsClient } from "../../src/kms-client/kms-client.js";
import type { FaultModule } from "./fault-module.js";
import type { PluginProcess, PluginSettings } from "./plugin-process.js";
import { ReachablePlugin } from "./reachable-plugin.js";
import type { SoftHsm } from "./softhsm.js";
import { useToken, type TokenFixture, type TokenOptions } from "./token-fixture.js";
import type { TestToken } from "./token.js";

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

/** A token, the plugin of `usePlugin`, and those that tests add. */
export class PluginFixture {
  readonly #tokens: TokenFixture;
  readonly #object: string | undefined;
  readonly #made: ReachablePlugin[] = [];

  constructor(tokens: TokenFixture, object: string | undefined) {
    this.#tokens = tokens;
    this.#object = object;
  }

  get token(): SoftHsm {
    return this.#tokens.token;
  }

  /** In front of the token; only with `token: { faults }`. */
  get fault(): FaultModule {
    return this.#tokens.fault;
  }

  /** The plugin, with what it is reached by. */
  get own(): ReachablePlugin {
    const [first] = this.#made;
    if (first === undefined) throw new Error("usePlugin: available only inside a test");
    return first;
  }

  get plugin(): PluginProcess {
    return this.own.plugin;
  }

  /** Connected to the plugin's socket. */
  get client(): KmsClient {
    return this.own.client;
  }

  /** Host and port of the plugin's HTTP endpoints. */
  get address(): string {
    return this.own.address;
  }

  /** Number of plugins, started or not. */
  get count(): number {
    return this.#made.length;
  }

  /**
   * Makes a plugin, which is not started: on the fixture's token, or on another. If made in a test, it is stopped and
   * removed after it; if made before the tests, with the fixture.
   */
  async add(
    settings: PluginSettings = {},
    { token = this.#tokens.front, object = this.#object }: { token?: TestToken; object?: string } = {},
  ): Promise<ReachablePlugin> {
    const one = await ReachablePlugin.on(token, object);
    this.#made.push(one);
    one.configure(settings);
    return one;
  }

  /** Stops and removes all plugins but the first ones. */
  async removeAllBut(first: number): Promise<void> {
    await Promise.all(this.#made.splice(first).map((one) => one.remove()));
  }
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
  const kms = new PluginFixture(useToken(token), object);
  let madeBefore = 0;
  beforeAll(async () => {
    const own = await kms.add();
    own.configure(typeof settings === "function" ? settings(kms) : settings);
    await prepare?.(kms);
    if (start) await own.start();
  });
  beforeEach(() => {
    madeBefore = kms.count;
  });
  afterEach(() => kms.removeAllBut(madeBefore));
  afterAll(() => kms.removeAllBut(0));
  return kms;
}
