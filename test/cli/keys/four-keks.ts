// What the tests of `keys destroy` with a proof from etcd have in common: a token with four KEKs, and an etcd with an object
// under one of them.

import { afterAll, beforeAll, expect } from "vitest";
import { labelOf } from "../../../src/provider/kek-label.js";
import { formatStoredObject } from "../../e2e/harness/stored-object.js";
import { startEtcd, type TestEtcd } from "../../support/etcd.js";
import { Pkcs11Client } from "../../support/pkcs11-client.js";
import { runCommand } from "../../support/command.js";
import { usePlugin, type PluginFixture } from "../../support/plugin-fixture.js";
import type { CommandResult } from "../../support/plugin-process.js";
import { tokenUri } from "../../support/token.js";

export const YEAR_MS = 365 * 24 * 3_600_000;

export class FourKeks {
  readonly node: PluginFixture;
  /** The key_ids of all, in the order of `keys list`: the standby KEK, the active one, the latest retired one first. */
  before: readonly string[] = [];
  #etcd: TestEtcd | undefined;

  constructor(node: PluginFixture) {
    this.node = node;
  }

  get etcd(): TestEtcd {
    if (this.#etcd === undefined) throw new Error("useFourKeks: available only inside a test");
    return this.#etcd;
  }

  get standby(): string {
    return this.before[0] ?? "";
  }

  /** Replaced a minute ago. */
  get fresh(): string {
    return this.before[2] ?? "";
  }

  /** Replaced a year ago; at first, an object is under it. */
  get settled(): string {
    return this.before[3] ?? "";
  }

  get #uri(): string {
    return tokenUri(this.node.token, "kms-kek");
  }

  async make(): Promise<void> {
    const now = Date.now();
    const instants = [now - 2 * YEAR_MS, now - YEAR_MS, now - 60_000, now + YEAR_MS];
    const labels = instants.map((instant) => labelOf("kms-kek", instant));
    const child = new Pkcs11Client(this.node.token);
    await child.open();
    await child.run(({ p11, state }, wanted: readonly string[]) => {
      for (const [index, label] of wanted.entries()) {
        state.makeKey({ [p11.CKA_LABEL]: label, [p11.CKA_ID]: Buffer.alloc(16, index + 1) });
      }
    }, labels);
    await child.kill();
    this.before = await this.listed();
    expect(this.before).toHaveLength(4);
    this.#etcd = await startEtcd();
    await this.etcd.store.put("/registry/secrets/ns/a", objectUnder(this.settled));
  }

  run(...args: string[]): Promise<CommandResult> {
    return runCommand(args, this.node.token.env);
  }

  async listed(): Promise<string[]> {
    const { stdout } = await this.run("keys", "list", "--key", this.#uri, "-o", "json");
    return (JSON.parse(stdout) as { keys: { keyId: string }[] }).keys.map(({ keyId }) => keyId);
  }

  destroy(keyId: string, ...proof: string[]): Promise<CommandResult> {
    return this.run("keys", "destroy", keyId, "--key", this.#uri, ...proof);
  }

  live(): string[] {
    return ["--endpoints", this.etcd.endpoint];
  }

  usage(report: string): Promise<CommandResult> {
    return this.run("etcd", "usage", ...this.live(), "--report", report);
  }
}

/** The operator's word that no node encrypts under a KEK. */
export const byWord = (keyId: string): string[] => ["--every-node-has-left", keyId];

const objectUnder = (keyId: string): Buffer =>
  formatStoredObject({
    provider: "hsm",
    encryptedData: Buffer.alloc(80),
    keyId,
    encryptedDekSource: Buffer.alloc(60),
    annotations: {},
    encryptedDekSourceType: 1,
  });

/** Makes the KEKs and the etcd before the tests of a file, and removes them after it. */
export function useFourKeks(): FourKeks {
  const keks = new FourKeks(usePlugin({}, { token: {}, start: false }));
  beforeAll(() => keks.make());
  afterAll(() => keks.etcd.remove());
  return keks;
}
