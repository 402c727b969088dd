// What the tests of `etcd recover` have in common: an etcd with objects as API servers store them, one object of each kind that
// cannot be decrypted, and the command.

import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, expect } from "vitest";
import type { EtcdRecoverOutput } from "../../../src/cli/output-schema/etcd-recover.js";
import { formatStoredObject } from "../../e2e/harness/stored-object.js";
import { runCommand } from "../../support/command.js";
import { startEtcd, type TestEtcd } from "../../support/etcd.js";
import { FakeNodes } from "../../support/fake-nodes.js";
import { usePlugin, type PluginFixture } from "../../support/plugin-fixture.js";
import type { CommandResult, PluginProcess } from "../../support/plugin-process.js";
import { SoftHsmClone } from "../../support/softhsm-clone.js";
import { sealedObject, sealedValue, type StoredSeed } from "../../support/stored-secrets.js";
import { makeFolder, tokenUri } from "../../support/token.js";
import { key, SECRET, stockEtcd } from "./stocked-etcd.js";

/** The key_id of no KEK in these tests. */
export const OTHER = `${"07".repeat(16)}.c${"0".repeat(32)}`;
export const bad = (name: string): string => key(name, "bad");

/** The cause of each object of badObjects(), by its name. */
export const ALL_CAUSES = {
  envelope: "envelope",
  junk: "envelope",
  moved: "damaged",
  seed: "damaged",
  unknown: "unknown-key-id",
};

interface Parts {
  readonly etcd: TestEtcd;
  readonly both: PluginProcess;
  readonly seed: StoredSeed;
}

export class UnreadableObjects {
  readonly kms: PluginFixture;
  readonly nodes = new FakeNodes();
  #made: Parts | undefined;

  constructor(kms: PluginFixture) {
    this.kms = kms;
  }

  get #parts(): Parts {
    if (this.#made === undefined) throw new Error("useUnreadableObjects: available only inside a test");
    return this.#made;
  }

  get etcd(): TestEtcd {
    return this.#parts.etcd;
  }

  /** A configuration with the fault module's token second and a clone first. */
  get both(): PluginProcess {
    return this.#parts.both;
  }

  get keyId(): string {
    return this.#parts.seed.encrypted.keyId;
  }

  async make(): Promise<void> {
    const { kms } = this;
    const etcd = await startEtcd();
    const seed = await stockEtcd(etcd, kms.own);
    await etcd.store.putAll(Object.entries(badObjects(seed)).map(([name, value]) => [bad(name), value]));
    const failover = [{ uri: tokenUri(new SoftHsmClone(kms.token, "other"), "kms-kek") }];
    const audit = { file: join(makeFolder("recover"), "audit.log") };
    const { plugin: both } = await kms.add({ failover, audit });
    this.#made = { etcd, both, seed };
  }

  async remove(): Promise<void> {
    this.nodes.close();
    await this.etcd.remove();
  }

  /** Returns the object whose encrypted seed was altered. */
  damagedSeed(): Buffer {
    return badObjects(this.#parts.seed)["seed"] ?? Buffer.alloc(0);
  }

  async recover(...args: string[]): Promise<CommandResult> {
    const command = ["etcd", "recover", "--config", this.kms.plugin.configFile, ...args];
    const env = { ...this.kms.token.env, ETCDCTL_ENDPOINTS: this.etcd.endpoint };
    const result = await runCommand(command, env);
    expect(result.stdout + result.stderr).not.toContain(SECRET);
    return result;
  }

  async list(...args: string[]): Promise<EtcdRecoverOutput> {
    const { stdout, stderr } = await this.recover("-o", "json", ...args);
    expect(stdout, stderr).not.toBe("");
    return JSON.parse(stdout) as EtcdRecoverOutput;
  }

  /** Returns the cause of each listed object, by its name. */
  async causes(...args: string[]): Promise<Record<string, string>> {
    const { findings } = await this.list(...args);
    return Object.fromEntries(findings.map(({ key: name, cause }) => [name.replace(/.*\//, ""), cause]));
  }
}

/** One object of each kind that cannot be decrypted. */
function badObjects(seed: StoredSeed): Record<string, Buffer> {
  const good = sealedObject(seed, bad("x"), SECRET);
  return {
    envelope: Buffer.from("k8s:enc:kms:v2:hsm:junk"),
    junk: Buffer.from("junk"),
    moved: sealedValue(seed, key("elsewhere"), SECRET),
    seed: formatStoredObject({ ...good, encryptedDekSource: flipped(good.encryptedDekSource) }),
    unknown: formatStoredObject({ ...good, keyId: OTHER }),
  };
}

function flipped(bytes: Buffer): Buffer {
  const copy = Buffer.from(bytes);
  const last = copy.length - 1;
  copy.writeUInt8(copy.readUInt8(last) ^ 1, last);
  return copy;
}

/** Stores the objects before the tests of a file, and removes them after it. */
export function useUnreadableObjects(): UnreadableObjects {
  const kms = usePlugin({}, { token: { kek: true, faults: [] }, start: false });
  const objects = new UnreadableObjects(kms);
  beforeAll(() => objects.make());
  beforeEach(() => {
    kms.fault.set();
  });
  afterAll(() => objects.remove());
  return objects;
}
