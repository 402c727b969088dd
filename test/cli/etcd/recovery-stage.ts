// What the tests of `etcd recover --delete` have in common: an etcd with 20 objects that can be read and, before each test, three
// that cannot and a backup that contains them; a token behind the fault module; and a stand-in for kube-apiserver.

import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, expect } from "vitest";
import type { EtcdRecoverOutput } from "../../../src/cli/output-schema/etcd-recover.js";
import { formatStoredObject } from "../../e2e/harness/stored-object.js";
import { runCommand } from "../../support/command.js";
import { startEtcd, type TestEtcd } from "../../support/etcd.js";
import { saveSnapshot } from "../../support/etcd-history.js";
import { usePlugin, type PluginFixture } from "../../support/plugin-fixture.js";
import type { CommandResult, PluginProcess } from "../../support/plugin-process.js";
import { SoftHsmClone } from "../../support/softhsm-clone.js";
import { newSeed, sealedObject, sealedValue, type StoredSeed } from "../../support/stored-secrets.js";
import { makeFolder, tokenUri } from "../../support/token.js";
import { key, SECRET } from "./stocked-etcd.js";
import { StandInRecovery } from "./stand-in-recovery.js";

/** The key_id of no KEK. */
export const OTHER = `${"07".repeat(16)}.c${"0".repeat(32)}`;
export const bad = (name: string): string => key(name, "bad");

interface AuditEvent {
  readonly operation?: string;
  readonly outcome?: string;
  readonly details?: Readonly<Record<string, string | number | boolean>>;
}

interface Parts {
  readonly etcd: TestEtcd;
  readonly api: StandInRecovery;
  readonly seed: StoredSeed;
  readonly both: PluginProcess;
}

export class RecoveryStage {
  readonly kms: PluginFixture;
  readonly folder = makeFolder("recover-delete");
  readonly backup = join(this.folder, "backup.db");
  readonly auditFile = join(this.folder, "audit.log");
  #made: Parts | undefined;

  constructor(kms: PluginFixture) {
    this.kms = kms;
  }

  get #parts(): Parts {
    if (this.#made === undefined) throw new Error("useRecovery: available only inside a test");
    return this.#made;
  }

  get etcd(): TestEtcd {
    return this.#parts.etcd;
  }

  get api(): StandInRecovery {
    return this.#parts.api;
  }

  get seed(): StoredSeed {
    return this.#parts.seed;
  }

  /** A configuration with a clone beside the fault module's token. */
  get both(): PluginProcess {
    return this.#parts.both;
  }

  async make(): Promise<void> {
    const { kms } = this;
    const etcd = await startEtcd();
    const api = new StandInRecovery(etcd);
    await api.start();
    kms.own.configure({ audit: { file: this.auditFile } });
    await kms.own.start();
    const seed = await newSeed(kms.plugin.socket);
    await kms.own.stop();
    const readable = Array.from({ length: 20 }, (_, at) => key(`good-${at}`));
    await etcd.store.putAll(readable.map((name) => [name, sealedValue(seed, name, SECRET)]));
    await etcd.store.put(key("foreign"), Buffer.from("k8s:enc:aescbc:v1:key1:0123456789abcdef"));
    const failover = [{ uri: tokenUri(new SoftHsmClone(kms.token, "other"), "kms-kek") }];
    const { plugin: both } = await kms.add({ failover, audit: { file: this.auditFile } });
    this.#made = { etcd, api, seed, both };
  }

  /** Stores the unreadable objects again and saves the backup. */
  async reset(): Promise<void> {
    const { kms, etcd, api, seed, backup } = this;
    kms.fault.set();
    api.reset();
    rmSync(this.auditFile, { force: true });
    const object = sealedObject(seed, bad("x"), SECRET);
    await etcd.store.putAll([
      [bad("a-moved"), sealedValue(seed, key("elsewhere"), SECRET)],
      [bad("b-junk"), Buffer.from("junk")],
      [bad("c-unknown"), formatStoredObject({ ...object, keyId: OTHER })],
    ]);
    rmSync(backup, { force: true });
    await saveSnapshot(etcd.store, backup);
  }

  async remove(): Promise<void> {
    await this.api.close();
    await this.etcd.remove();
  }

  /** The arguments of the command and its environment. */
  args(...args: string[]): string[] {
    return ["etcd", "recover", "--config", this.kms.plugin.configFile, ...args];
  }

  get env(): Record<string, string> {
    const { kms, etcd, api } = this;
    return { ...kms.token.env, ETCDCTL_ENDPOINTS: etcd.endpoint, KUBECONFIG: api.kubeconfig };
  }

  run(...args: string[]): Promise<CommandResult> {
    return runCommand(this.args(...args), this.env);
  }

  delete(...args: string[]): Promise<CommandResult> {
    return this.run("--delete", "--yes", "--backup", this.backup, ...args);
  }

  /** Deletes, and returns the outcomes by the objects' names. */
  async outcomes(...args: string[]): Promise<Record<string, string>> {
    const { stdout, stderr } = await this.delete("-o", "json", ...args);
    expect(stdout, stderr).not.toBe("");
    return outcomesIn(stdout);
  }

  async badKeys(): Promise<string[]> {
    return (await this.etcd.store.list(bad(""))).map((one) => one.key);
  }

  /** The revision of each object, readable or not. */
  async revisions(): Promise<Map<string, number>> {
    return new Map((await this.etcd.store.list(key(""))).map((one) => [one.key, one.modRevision]));
  }

  /** The events of the command in the audit log about objects: object and outcome. */
  audited(): (string | undefined)[][] {
    return this.#events()
      .filter(({ details }) => details?.["end"] !== true)
      .map(({ outcome, details }) => [String(details?.["key"]), outcome]);
  }

  /** The run of each event, in their order, without repetition; and those at the end of a run. */
  runs(): { readonly ids: unknown[]; readonly ends: AuditEvent[] } {
    const events = this.#events();
    const ids = [...new Set(events.map(({ details }) => details?.["run"]))];
    return { ids, ends: events.filter(({ details }) => details?.["end"] === true) };
  }

  #events(): AuditEvent[] {
    return readFileSync(this.auditFile, "utf8")
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as AuditEvent)
      .filter(({ operation }) => operation === "etcd recover");
  }

  /** Requires that a command ends with this code and message, and that nothing is deleted. */
  async refuses(result: Promise<CommandResult>, code: number, text: string): Promise<void> {
    const { code: exitCode, stderr } = await result;
    expect([exitCode, stderr]).toEqual([code, expect.stringContaining(text)]);
    expect(this.api.deletions).toEqual([]);
    expect(await this.badKeys()).toHaveLength(3);
  }
}

/** Returns the outcomes in the JSON output, by the objects' names. */
export function outcomesIn(stdout: string): Record<string, string> {
  const { deletion } = JSON.parse(stdout) as EtcdRecoverOutput;
  return Object.fromEntries(
    (deletion?.results ?? []).map(({ key: name, outcome }) => [name.replace(/.*\//, ""), outcome]),
  );
}

/** Makes the stage before the tests of a file, resets it before each, and removes it after them. */
export function useRecovery(): RecoveryStage {
  const kms = usePlugin({}, { token: { kek: true, faults: [] }, start: false });
  const stage = new RecoveryStage(kms);
  beforeAll(() => stage.make());
  beforeEach(() => stage.reset());
  afterAll(() => stage.remove());
  return stage;
}
