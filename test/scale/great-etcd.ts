// A large etcd: objects sealed under DEK seeds that a plugin encrypted on SoftHSM, in an order in which neighbours rarely
// share a seed. The first objects are Secrets, for commands that use the HSM; the others are ConfigMaps.

import { execFileSync } from "node:child_process";
import { randomBytes, randomInt } from "node:crypto";
import { join } from "node:path";

import { parallel } from "../e2e/harness/parallel.js";
import { startEtcd, type TestEtcd } from "../support/etcd.js";
import { createKek, PluginProcess } from "../support/plugin-process.js";
import { createSoftHsm, type SoftHsm } from "../support/softhsm.js";
import { newSeeds, sealedValue, type StoredSeed } from "../support/stored-secrets.js";
import { makeFolder } from "../support/token.js";

export interface Amounts {
  readonly objects: number;
  readonly secrets: number;
  readonly seeds: number;
}

export const NAMESPACES = 5_000;
/** One in this many objects is in clear, and one is under another provider. */
export const LEFTOVERS = 100;
const VALUE_BYTES = 120;
const PUTS_AT_ONCE = 1_000;
const WRITERS = 4;
const QUOTA_BYTES = 8 * 2 ** 30;

export class GreatEtcd {
  readonly amounts: Amounts;
  readonly #binaries: string;
  readonly #folder = makeFolder("scale");
  readonly #token: SoftHsm;
  readonly #plugin: PluginProcess;
  readonly #etcd: TestEtcd;
  #seeds: readonly StoredSeed[] = [];

  private constructor(amounts: Amounts, binaries: string, etcd: TestEtcd) {
    this.amounts = amounts;
    this.#binaries = binaries;
    this.#etcd = etcd;
    this.#token = createSoftHsm();
    createKek(this.#token);
    this.#plugin = new PluginProcess(this.#token);
  }

  /** Starts and fills an etcd. @param binaries the folder that contains etcd and etcdctl */
  static async fill(amounts: Amounts, binaries: string): Promise<GreatEtcd> {
    const options = [
      `--max-txn-ops=${PUTS_AT_ONCE}`,
      `--quota-backend-bytes=${QUOTA_BYTES}`,
      "--unsafe-no-fsync",
    ];
    const great = new GreatEtcd(amounts, binaries, await startEtcd(join(binaries, "etcd"), options));
    await great.#fill();
    return great;
  }

  /** The configuration with which commands use the token. */
  get configFile(): string {
    return this.#plugin.configFile;
  }

  /** The environment in which commands find etcd and the token. */
  get env(): Record<string, string> {
    return { ...this.#token.env, ETCDCTL_ENDPOINTS: this.#etcd.endpoint };
  }

  /** Saves a snapshot and returns its file. */
  snapshot(): string {
    const file = join(this.#folder, "snapshot.db");
    this.etcdctl("snapshot", "save", file);
    return file;
  }

  /** Runs etcdctl and throws its output away. */
  etcdctl(...args: readonly string[]): void {
    const options = ["--endpoints", this.#etcd.endpoint, "--command-timeout", "10m"];
    execFileSync(join(this.#binaries, "etcdctl"), [...options, ...args], { stdio: "ignore" });
  }

  async remove(): Promise<void> {
    await this.#plugin.stop();
    this.#plugin.remove();
    this.#token.remove();
    await this.#etcd.remove();
  }

  async #fill(): Promise<void> {
    await this.#plugin.start();
    this.#seeds = await newSeeds(this.#plugin.socket, this.amounts.seeds);
    await this.#plugin.stop();
    await parallel(WRITERS, WRITERS, (writer) =>
      this.#etcd.store.putAll(this.#entries(writer), PUTS_AT_ONCE),
    );
  }

  *#entries(writer: number): Generator<[string, Buffer]> {
    const { objects, secrets } = this.amounts;
    for (let at = writer; at < objects; at += WRITERS) {
      const resource = at < secrets ? "secrets" : "configmaps";
      const key = `/registry/${resource}/namespace-${at % NAMESPACES}/object-${at}`;
      yield [key, this.#valueOf(at, key)];
    }
  }

  #valueOf(at: number, key: string): Buffer {
    const { seeds } = this.amounts;
    const content = randomBytes(VALUE_BYTES / 2).toString("hex");
    if (at % LEFTOVERS === 1) return Buffer.from(`k8s\0${content}`);
    if (at % LEFTOVERS === 2) return Buffer.from(`k8s:enc:aescbc:v1:key1:${content}`);
    const seed = this.#seeds[at < seeds * 2 ? at % seeds : randomInt(seeds)];
    if (seed === undefined) throw new Error("no seed");
    return sealedValue(seed, key, content);
  }
}
