// A plugin process with what tests reach it by: a client of its socket, and its HTTP endpoints on a port of its own.

import { KmsClient } from "../../src/kms-client/kms-client.js";
import { freePort } from "./free-port.js";
import { PluginProcess, type PluginSettings } from "./plugin-process.js";
import type { TestToken } from "./token.js";

/** Limit for a call that hangs: a busy machine must not fail a test. */
const PATIENCE_MS = 20_000;

export class ReachablePlugin {
  readonly plugin: PluginProcess;
  /** Host and port of the HTTP endpoints. */
  readonly address: string;
  #client: KmsClient | undefined;

  private constructor(plugin: PluginProcess, address: string) {
    this.plugin = plugin;
    this.address = address;
  }

  /** Makes a plugin that is not started yet. @param object the label of its KEK */
  static async on(token: TestToken, object?: string): Promise<ReachablePlugin> {
    return new ReachablePlugin(new PluginProcess(token, {}, object), `127.0.0.1:${await freePort()}`);
  }

  /** Connected to the plugin's socket; another client after each stop. */
  get client(): KmsClient {
    return (this.#client ??= new KmsClient(this.plugin.socket, PATIENCE_MS));
  }

  get url(): string {
    return `http://${this.address}`;
  }

  /** Writes the configuration file that the next start reads: HTTP endpoints, one token host, and these sections. */
  configure(settings: PluginSettings = {}): void {
    this.plugin.configure({ http: { address: this.address }, hsm: { hosts: 1 }, ...settings });
  }

  /** Starts the plugin and waits until it serves. @param settings if given, replace the configuration */
  async start(settings?: PluginSettings): Promise<void> {
    if (settings !== undefined) this.configure(settings);
    await this.plugin.start();
  }

  /** Stops the plugin, closes the client, and returns the exit code. */
  async stop(): Promise<number | null> {
    this.#client?.close();
    this.#client = undefined;
    return this.plugin.stop();
  }

  async restart(settings?: PluginSettings): Promise<void> {
    await this.stop();
    await this.start(settings);
  }

  /** Uses a new connection: a command may have blocked this process for longer than the server keeps an idle one. */
  async get(path: string): Promise<Response> {
    return fetch(`${this.url}${path}`, { headers: { connection: "close" } });
  }

  /** Returns the value of a metric without labels; NaN if it has none. @param name without "kms_pkcs11_" */
  async metric(name: string): Promise<number> {
    const text = await (await this.get("/metrics")).text();
    return Number(new RegExp(`^kms_pkcs11_${name} (\\S+)$`, "m").exec(text)?.[1]);
  }

  async remove(): Promise<void> {
    await this.stop();
    this.plugin.remove();
  }
}
