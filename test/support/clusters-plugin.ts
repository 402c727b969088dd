// A plugin that serves several clusters, each with a KEK of its own on the fixture's token.

import { randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";

import { stringify } from "yaml";

import { KmsClient } from "../../src/kms-client/kms-client.js";
import { freePort } from "./free-port.js";
import { PluginProcess } from "./plugin-process.js";
import { tokenUri, type TestToken } from "./token.js";
import { openToken } from "./token-hsm.js";
import { waitFor } from "./wait.js";

/** Limit for a call that hangs: a busy machine must not fail a test. */
const PATIENCE_MS = 20_000;

/** Makes an active KEK for each of many clusters, with its name; `createKek` starts a process for each. */
export async function createClusterKeks(token: TestToken, names: readonly string[]): Promise<void> {
  const [objectName = "", ...others] = names;
  const { hsm } = openToken(token, { objectName, hosts: 1 });
  await hsm.listKeks();
  hsm.setKeks({ objectName, others: others.map((name) => ({ objectName: name })) });
  for (const name of names) {
    const ckaId = randomBytes(16).toString("hex");
    await hsm.generate({ label: `${name}@20260101T000000Z`, ckaId, kind: "aes" });
  }
  await hsm.stop(1_000);
}

export interface ClusterSections {
  readonly keys?: object;
  readonly failover?: readonly object[];
  readonly socket?: object;
  readonly requests?: number;
  readonly cache?: object;
  readonly audit?: object;
}

export class ClustersPlugin {
  readonly plugin: PluginProcess;
  readonly address: string;
  readonly #token: TestToken;
  readonly #clients = new Map<string, KmsClient>();

  private constructor(token: TestToken, address: string) {
    this.#token = token;
    this.plugin = new PluginProcess(token);
    this.address = address;
  }

  static async on(token: TestToken): Promise<ClustersPlugin> {
    return new ClustersPlugin(token, `127.0.0.1:${await freePort()}`);
  }

  socketOf(name: string): string {
    return join(this.plugin.folder, "run", `${name}.sock`);
  }

  /** Writes the configuration file: these clusters, whose KEKs have their names, and common sections. */
  configure(clusters: Readonly<Record<string, ClusterSections>>, common: object = {}): void {
    const document = {
      apiVersion: "kms-pkcs11.dev/v1",
      kind: "PluginConfiguration",
      http: { address: this.address },
      hsm: { hosts: 1 },
      stateDir: this.plugin.stateDir,
      ...common,
      clusters: Object.entries(clusters).map(([name, sections]) => ({
        name,
        ...sections,
        socket: { path: this.socketOf(name), ...sections.socket },
        keys: { uri: tokenUri(this.#token, name), ...sections.keys },
      })),
    };
    writeFileSync(this.plugin.configFile, stringify(document), { mode: 0o600 });
  }

  /** Starts the plugin and waits until the clusters' Status is ok. */
  async start(...names: readonly string[]): Promise<void> {
    this.plugin.launch();
    for (const name of names) await this.serves(name);
  }

  /** Waits until a cluster's Status is ok. */
  async serves(name: string): Promise<void> {
    await waitFor(
      async () => {
        if (!this.plugin.running) throw new Error(`the plugin has ended:\n${this.plugin.log}`);
        return (await this.client(name).status()).healthz === "ok";
      },
      { what: `an ok Status of ${name}`, timeoutMs: 55_000, intervalMs: 50 },
    );
  }

  /** Connected to a cluster's socket. */
  client(name: string): KmsClient {
    const known = this.#clients.get(name);
    if (known !== undefined) return known;
    const client = new KmsClient(this.socketOf(name), PATIENCE_MS);
    this.#clients.set(name, client);
    return client;
  }

  /** Has the plugin load its configuration again, and waits until it has applied or refused it. */
  async reload(): Promise<void> {
    const count = (): number => this.plugin.log.split(/clusters reloaded|configuration not reloaded/).length;
    const before = count();
    process.kill(this.plugin.pid ?? NaN, "SIGHUP");
    await waitFor(() => count() > before, { what: "the reload", timeoutMs: 30_000, intervalMs: 20 });
  }

  async get(path: string): Promise<{ readonly status: number; readonly text: string }> {
    const response = await fetch(`http://${this.address}${path}`, { headers: { connection: "close" } });
    return { status: response.status, text: await response.text() };
  }

  async remove(): Promise<void> {
    for (const client of this.#clients.values()) client.close();
    await this.plugin.stop();
    this.plugin.remove();
  }
}
