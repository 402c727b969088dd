// Reading etcd without its API servers: a cluster with two KEKs and leftovers in clear and under a local key, objects
// that were damaged or moved, and a disaster that leaves only a snapshot and the token.

import { readFile, rename } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ControlPlane } from "./harness/control-plane.js";
import { aescbcProvider, identityProvider, kmsProvider } from "./harness/encryption-configuration.js";
import { storageKey } from "./harness/etcd-store.js";
import { provideEtcdTools } from "./harness/etcd-tools.js";
import { KmsCluster, NAMESPACE, type Node } from "./harness/kms-cluster.js";
import type { CommandResult } from "../support/plugin-process.js";
import { kmsPkcs11, kmsPkcs11Ok } from "./harness/kms-pkcs11.js";
import { parallel } from "./harness/parallel.js";
import type { Plugin } from "./harness/plugin.js";
import { record } from "./harness/report.js";
import { newFolder } from "./harness/run.js";
import { isAsShown, readRunbook, RunbookShell } from "./harness/runbook.js";
import { formatStoredObject, parseStoredObject } from "./harness/stored-object.js";
import { until } from "./harness/wait.js";

const PER_PAST = 20;
const local = aescbcProvider();
const valueOf = (name: string): string => `the value of ${name}`;
const keyOf = (name: string): string => storageKey("secrets", NAMESPACE, name);

let cluster: KmsCluster;
let node: Node;
let config: string;
let names: string[] = [];
let earlier: string;
let active: string;
let rebuilt: { plane: ControlPlane; plugin: Plugin } | undefined;

beforeAll(async () => {
  cluster = await KmsCluster.start();
  const audit = { file: join(await newFolder("audit"), "audit.log") };
  node = await cluster.addNode({ config: { keys: { refreshInterval: "1s" }, audit } });
  const { plugin, apiserver } = node;
  config = join(plugin.places.folder, "config.yaml");
  const kms = kmsProvider(plugin.places.socket);
  await plugin.start();
  earlier = await statusKeyId();
  const pasts = [
    ["clear", [identityProvider]],
    ["local", [local, identityProvider]],
    ["first", [kms, local, identityProvider]],
  ] as const;
  for (const [past, providers] of pasts) {
    await apiserver.writeEncryption([{ resources: ["secrets"], providers }]);
    await apiserver.restart();
    if (past === "clear") await apiserver.client.createNamespace(NAMESPACE);
    await createSecrets(past);
  }
  const rotate = ["keys", "rotate", "--key", cluster.token.uri(), "--activate-in", "2s"];
  await kmsPkcs11Ok(rotate, cluster.token.env);
  active = await until("the second KEK is active", async () => {
    const keyId = await statusKeyId();
    return keyId === earlier ? undefined : keyId;
  });
  await apiserver.restart();
  await createSecrets("second");
  await apiserver.client.createSecret(NAMESPACE, "db", valueOf("db"));
  names.push("db");
});

afterAll(async () => {
  await rebuilt?.plane.stop();
  await rebuilt?.plugin.stop();
  await cluster.stop();
});

async function statusKeyId(): Promise<string> {
  const args = ["status", "--socket", node.plugin.places.socket, "-o", "json"];
  return (JSON.parse(await kmsPkcs11Ok(args)) as { keyId: string }).keyId;
}

async function createSecrets(past: string): Promise<void> {
  const made = Array.from({ length: PER_PAST }, (_, at) => `${past}-${at}`);
  await parallel(PER_PAST, 4, (at) => {
    const name = made[at] ?? "";
    return node.apiserver.client.createSecret(NAMESPACE, name, valueOf(name));
  });
  names = [...names, ...made];
}

async function stored(name: string): Promise<Buffer> {
  const value = await cluster.plane.etcd.store.get(keyOf(name));
  if (value === undefined) throw new Error(`${name} is not stored`);
  return value;
}

/** Runs an etcd command on the cluster's etcd, and checks that its output contains no stored value. */
async function etcd(...args: readonly string[]): Promise<CommandResult> {
  const env = { ...cluster.token.env, ETCDCTL_ENDPOINTS: cluster.plane.etcd.endpoint };
  const result = await kmsPkcs11(["etcd", ...args, "-o", "json"], env);
  expect(result.stdout + result.stderr).not.toContain("the value of");
  return result;
}

interface Failure {
  readonly reason: string;
  readonly keys: readonly string[];
}

describe("what is in etcd", () => {
  it("etcd usage counts the stored objects by provider and key_id", async () => {
    const { code, stdout } = await etcd("usage", "--fail-if-used", earlier);
    const { usages } = JSON.parse(stdout) as {
      usages: { provider: string; keyId: string | null; objects: number }[];
    };
    const counted = usages.filter(({ provider }) => provider !== "");
    const byKey = counted.map(({ provider, keyId, objects }) => [provider, keyId, objects]);
    expect(byKey).toHaveLength(3);
    expect(byKey).toContainEqual(["aescbc:v1:key1", null, PER_PAST]);
    expect(byKey).toContainEqual(["kms:v2:hsm", earlier, PER_PAST]);
    expect(byKey).toContainEqual(["kms:v2:hsm", active, PER_PAST + 1]);
    expect(code).toBe(1);
  });

  it("etcd verify decrypts every object except damaged and moved ones", async () => {
    expect((await etcd("verify", "--config", config)).code).toBe(0);
    const value = await stored("second-0");
    const object = parseStoredObject(value);
    if (object === undefined) throw new Error("not stored by KMS v2");
    const flipped = Buffer.from(object.encryptedData);
    flipped.writeUInt8(flipped.readUInt8(50) ^ 1, 50);
    const { store } = cluster.plane.etcd;
    await store.put(keyOf("moved"), value);
    await store.put(keyOf("flipped"), formatStoredObject({ ...object, encryptedData: flipped }));
    const { code, stdout } = await etcd("verify", "--config", config);
    const { failures } = JSON.parse(stdout) as { failures: readonly Failure[] };
    expect([code, failures.map(({ keys }) => keys)]).toEqual([1, [[keyOf("flipped"), keyOf("moved")]]]);
    expect(failures[0]?.reason).toContain("does not authenticate");
    await store.delete(keyOf("moved"));
    await store.delete(keyOf("flipped"));
  });
});

describe("the runbook of disaster recovery", () => {
  it("the disaster-recovery runbook restores every object from a snapshot and the token", async () => {
    const folder = await newFolder("recovery");
    const data = join(folder, "data");
    const shell = await RunbookShell.create(folder, {
      ...cluster.token.env,
      CONFIG: config,
      SOCKET: node.plugin.places.socket,
      DATA: data,
      ETCDCTL_ENDPOINTS: cluster.plane.etcd.endpoint,
    });
    await provideEtcdTools(join(folder, "bin"));
    const steps = await readRunbook(new URL("../../deploy/runbooks/disaster-recovery.md", import.meta.url));
    const restore = steps.findIndex(({ command }) => command.startsWith("etcdutl snapshot restore"));
    expect(restore).toBeGreaterThan(0);
    let environment = "";
    for (const [at, { command, output }] of steps.entries()) {
      // From the heading "When everything is gone" on, only a token and a file are left.
      if (command.startsWith("kms-pkcs11 keys list")) await cluster.plane.stop();
      const { code, stdout, stderr } = await shell.run(`${environment}${command}`);
      expect([command, code], stderr).toEqual([command, 0]);
      expect(isAsShown(stdout, output), `${command}\n${stdout}`).toBe(true);
      if (at !== restore) continue;
      await node.plugin.stop();
      const begun = performance.now();
      await rebuild(data);
      record("recovery", "from the restored folder to a ready API server, ms", performance.now() - begun);
      environment = `ETCDCTL_ENDPOINTS=${rebuilt?.plane.etcd.endpoint ?? ""} `;
    }
    expect(await readFile(join(folder, "db.pb"), "utf8")).toContain(valueOf("db"));
    const [apiserver] = rebuilt?.plane.apiservers ?? [];
    for (const name of names) {
      expect((await apiserver?.client.readSecret(NAMESPACE, name))?.toString()).toBe(valueOf(name));
    }
  });

  /** Starts a new etcd on the folder, the plugin and a new API server. */
  async function rebuild(data: string): Promise<void> {
    const plane = await ControlPlane.start((etcdFolder) => rename(data, etcdFolder));
    rebuilt = { plane, plugin: node.plugin };
    await node.plugin.start();
    const kms = kmsProvider(node.plugin.places.socket);
    const encryption = [{ resources: ["secrets"], providers: [kms, local, identityProvider] }];
    await plane.startApiserver({ encryption });
  }
});
