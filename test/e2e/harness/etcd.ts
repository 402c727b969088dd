// A real etcd with one member on loopback and its data in a folder of the test. etcd-store.ts reads and changes its
// content.

import { mkdir, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { freePort } from "../../support/free-port.js";
import { EtcdStore } from "./etcd-store.js";
import { ManagedProcess } from "./process.js";
import { until } from "./wait.js";

export interface EtcdOptions {
  /** The folder that contains the etcd binary. */
  readonly binaries: string;
  /** Created if missing; contains the data folder and the log. */
  readonly folder: string;
}

export class Etcd {
  readonly endpoint: string;
  readonly dataFolder: string;
  readonly store: EtcdStore;
  readonly #options: EtcdOptions;
  readonly #peer: string;
  #process: ManagedProcess;

  private constructor(options: EtcdOptions, endpoint: string, peer: string) {
    this.endpoint = endpoint;
    this.#peer = peer;
    this.#options = options;
    this.dataFolder = join(options.folder, "data");
    this.store = new EtcdStore(endpoint);
    this.#process = this.#spawn();
  }

  /** Resolves when etcd reports that it is healthy. */
  static async start(options: EtcdOptions): Promise<Etcd> {
    await mkdir(options.folder, { recursive: true });
    const [client, peer] = [await freePort(), await freePort()];
    const etcd = new Etcd(options, `http://127.0.0.1:${client}`, `http://127.0.0.1:${peer}`);
    await etcd.#healthy();
    return etcd;
  }

  /** Sends SIGTERM. etcd takes 7 s to stop while an API server watches it, so stop API servers first. */
  async stop(): Promise<void> {
    await this.#process.stop();
  }

  /** Sends SIGKILL. Acknowledged writes are kept. */
  async kill(): Promise<void> {
    await this.#process.kill();
  }

  /** Kills it if it is running, and starts it again with the same data and ports. */
  async restart(): Promise<void> {
    await this.kill();
    this.#process = this.#spawn();
    await this.#healthy();
  }

  /** Returns the files of the data folder (database, write-ahead log) that contain these bytes. */
  async filesHolding(bytes: Buffer): Promise<string[]> {
    const holding: string[] = [];
    for (const entry of await readdir(this.dataFolder, { recursive: true, withFileTypes: true })) {
      if (!entry.isFile()) continue;
      const path = join(entry.parentPath, entry.name);
      if ((await readFile(path)).includes(bytes)) holding.push(path);
    }
    return holding;
  }

  #spawn(): ManagedProcess {
    return ManagedProcess.start({
      name: "etcd",
      command: join(this.#options.binaries, "etcd"),
      args: [
        "--name=e2e",
        `--data-dir=${this.dataFolder}`,
        `--listen-client-urls=${this.endpoint}`,
        `--advertise-client-urls=${this.endpoint}`,
        `--listen-peer-urls=${this.#peer}`,
        `--initial-advertise-peer-urls=${this.#peer}`,
        `--initial-cluster=e2e=${this.#peer}`,
        "--log-level=warn",
        // Without fsync a crash of the machine loses data, but a killed process does not; fsync would slow the tests
        // down.
        "--unsafe-no-fsync",
      ],
      logFile: join(this.#options.folder, "etcd.log"),
    });
  }

  async #healthy(): Promise<void> {
    await until(
      "etcd is healthy",
      async () =>
        ((await (await fetch(`${this.endpoint}/health`)).json()) as { health: string }).health === "true",
      { process: this.#process },
    );
  }
}
