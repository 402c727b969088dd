// The plugins to measure: the reference plugin and ours in each mode, all with the same KEK on one SoftHSM token. Each is
// started when a case first needs it.

import { join } from "node:path";

import { kmsPkcs11, createKek, PluginProcess, type PluginSettings } from "../support/plugin-process.js";
import { createSoftHsm, type SoftHsm } from "../support/softhsm.js";
import { tokenUri, type TestToken } from "../support/token.js";
import type { Target } from "./load-generator.js";
import { ReferencePlugin } from "./reference.js";

/** At level info every Encrypt is logged; an API server makes only a handful a day. */
export const QUIET = { log: { level: "warn" } };

const SETTINGS: Readonly<Record<string, PluginSettings>> = {
  "local-kek": { mode: "local-kek", ...QUIET },
  direct: { mode: "direct", ...QUIET },
  "direct, no cache": { mode: "direct", cache: { entries: 0 }, ...QUIET },
};

/** A plugin that was started to be measured. */
export interface Started {
  readonly socket: string;
  stop(): Promise<unknown>;
}

export class Stage {
  readonly token: SoftHsm = createSoftHsm();
  readonly #plugins = new Map<string, PluginProcess>();
  #reference: Started | undefined;
  #references = 0;

  constructor() {
    createKek(this.token);
  }

  /** Returns the reference plugin and ours in each mode, the reference plugin first. */
  async targets(): Promise<Target[]> {
    this.#reference ??= await this.startReference(this.token);
    const targets: Target[] = [["reference", this.#reference.socket]];
    for (const name of Object.keys(SETTINGS)) targets.push([name, await this.#socketOf(name)]);
    return targets;
  }

  /** Starts another reference plugin, on this token or on the same one behind a fault module. */
  async startReference(token: TestToken): Promise<Started> {
    const socket = join(this.token.folder, `reference-${this.#references++}.sock`);
    const reference = new ReferencePlugin(token, this.#label(), socket);
    await reference.ready();
    return reference;
  }

  async close(): Promise<void> {
    for (const plugin of this.#plugins.values()) {
      await plugin.stop();
      plugin.remove();
    }
    await this.#reference?.stop();
    this.token.remove();
  }

  async #socketOf(name: string): Promise<string> {
    let plugin = this.#plugins.get(name);
    if (plugin === undefined) {
      plugin = new PluginProcess(this.token, SETTINGS[name]);
      this.#plugins.set(name, plugin);
      await plugin.start();
    }
    return plugin.socket;
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
