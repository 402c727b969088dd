// A cluster for a test: one etcd and its API servers, without nodes or controllers.

import { generateKeyPairSync } from "node:crypto";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { EncryptionRule } from "./encryption-configuration.js";
import { Etcd } from "./etcd.js";
import { KubeApiserver } from "./kube-apiserver.js";
import { binaries, newFolder } from "./run.js";

export interface ApiserverOptions {
  readonly name?: string;
  readonly encryption?: readonly EncryptionRule[];
  readonly reloadEncryption?: boolean;
  readonly extraArgs?: readonly string[];
}

export class ControlPlane {
  readonly etcd: Etcd;
  readonly apiservers: KubeApiserver[] = [];
  readonly #folder: string;
  readonly #binaries: string;

  private constructor(etcd: Etcd, folder: string, from: string) {
    this.etcd = etcd;
    this.#folder = folder;
    this.#binaries = from;
  }

  /**
   * Starts etcd; the test adds API servers. The test must stop the cluster, even if a later step throws.
   * @param putData puts a data folder in the place of etcd's
   */
  static async start(putData?: (path: string) => Promise<void>): Promise<ControlPlane> {
    const folder = await newFolder("cp");
    const from = binaries();
    await writeServiceAccountKey(join(folder, "service-account.key"));
    const etcdFolder = join(folder, "etcd");
    await mkdir(etcdFolder);
    await putData?.(join(etcdFolder, "data"));
    const etcd = await Etcd.start({ binaries: from, folder: etcdFolder });
    return new ControlPlane(etcd, folder, from);
  }

  /** Adds an API server on the same etcd, configured but not started. */
  async addApiserver(options: ApiserverOptions = {}): Promise<KubeApiserver> {
    const name = options.name ?? `apiserver-${this.apiservers.length + 1}`;
    const folder = join(this.#folder, name);
    await mkdir(folder);
    const server = await KubeApiserver.create({
      ...options,
      name,
      folder,
      binaries: this.#binaries,
      etcd: this.etcd,
      serviceAccountKeyFile: join(this.#folder, "service-account.key"),
    });
    this.apiservers.push(server);
    return server;
  }

  /** Adds an API server, starts it and waits until it is ready. */
  async startApiserver(options: ApiserverOptions = {}): Promise<KubeApiserver> {
    const server = await this.addApiserver(options);
    await server.start();
    return server;
  }

  /** Stops the API servers, then etcd. May be called twice. */
  async stop(): Promise<void> {
    await Promise.all(this.apiservers.map((server) => server.stop()));
    await this.etcd.stop();
  }
}

async function writeServiceAccountKey(path: string): Promise<void> {
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  await writeFile(path, privateKey.export({ type: "sec1", format: "pem" }), { mode: 0o600 });
}
