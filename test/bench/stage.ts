// The plugins to measure: the reference plugin and ours in each mode, all with the same KEK on one SoftHSM token.

import { join } from "node:path";

import { kmsPkcs11, createKek, PluginProcess, type PluginSettings } from "../support/plugin-process.js";
import { createSoftHsm, type SoftHsm } from "../support/softhsm.js";
import { tokenUri } from "../support/token.js";
import { ReferencePlugin, type Target } from "./reference.js";

/** At level info every Encrypt is logged; an API server makes only a handful a day. */
const QUIET = { log: { level: "warn" } };

const SETTINGS: Readonly<Record<string, PluginSettings>> = {
  "local-kek": { mode: "local-kek", ...QUIET },
  direct: { mode: "direct", ...QUIET },
  "direct, no cache": { mode: "direct", cache: { entries: 0 }, ...QUIET },
};

export class Stage {
  readonly token: SoftHsm = createSoftHsm();
  readonly #plugins = new Map<string, PluginProcess>();
  #reference: ReferencePlugin | undefined;

  /** Starts all plugins and waits until they serve. */
  async open(): Promise<void> {
    createKek(this.token);
    const socket = join(this.token.folder, "reference.sock");
    this.#reference = new ReferencePlugin(this.token, this.#label(), socket);
    for (const [name, settings] of Object.entries(SETTINGS)) {
      const plugin = new PluginProcess(this.token, settings);
      this.#plugins.set(name, plugin);
      await plugin.start();
    }
    await this.#reference.ready();
  }

  plugin(name: string): PluginProcess {
    const plugin = this.#plugins.get(name);
    if (plugin === undefined) throw new RangeError(`no plugin is called ${name}`);
    return plugin;
  }

  target(name: string): Target {
    return [name, this.plugin(name).socket];
  }

  /** Returns the targets, the reference plugin first. */
  get targets(): Target[] {
    if (this.#reference === undefined) throw new Error("the stage has not been opened");
    return [
      ["reference", this.#reference.socket],
      ...[...this.#plugins.keys()].map((name) => this.target(name)),
    ];
  }

  async close(): Promise<void> {
    for (const plugin of this.#plugins.values()) {
      await plugin.stop();
      plugin.remove();
    }
    await this.#reference?.stop();
    this.token.remove();
  }

  /** Returns the KEK's label, which contains its activation instant. */
  #label(): string {
    const { stdout } = kmsPkcs11(
      ["keys", "list", "--key", tokenUri(this.token, "kms-kek"), "-o", "json"],
      this.token.env,
    );
    const { keys } = JSON.parse(stdout) as { keys: { label: string }[] };
    const label = keys[0]?.label;
    if (label === undefined) throw new Error("the token holds no KEK");
    return label;
  }
}
