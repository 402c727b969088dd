// `etcd migrate` on a cluster with objects in clear, under a local key and under an earlier KEK. All of them come under
// the active KEK while others write, in spite of an interruption; then the earlier KEK is no longer needed.

import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  aescbcProvider,
  identityProvider,
  kmsProvider,
  type EncryptionRule,
} from "./harness/encryption-configuration.js";
import { nodeUrls } from "./harness/keyring.js";
import { KmsCluster, NAMESPACE, type Node } from "./harness/kms-cluster.js";
import { kmsPkcs11, kmsPkcs11Ok } from "./harness/kms-pkcs11.js";
import { MAIN } from "../support/plugin-process.js";
import { parallel } from "./harness/parallel.js";
import { ManagedProcess } from "./harness/process.js";
import { record } from "./harness/report.js";
import { SoftHsmToken } from "./harness/softhsm-token.js";
import { parseStoredObject } from "./harness/stored-object.js";
import { isAsShown, readRunbook, RunbookShell } from "./harness/runbook.js";
import { until } from "./harness/wait.js";
import { createWidget, installWidgets, readWidget } from "./harness/widget.js";

const SECRETS = 60;
const CONFIG_MAPS = 10;
const name = (index: number): string => `s-${index}`;
const local = aescbcProvider();

let token: SoftHsmToken;
let cluster: KmsCluster;
let node: Node;
let kubeconfig: string;
/** The key_ids of the two generations. */
let earlier: string;
let active: string;

/** Returns for each stored object its key_id, or how it is stored instead. */
async function standings(): Promise<Map<string, string>> {
  const entries = await cluster.plane.etcd.store.list("/registry/");
  // kube-apiserver's internal records are not encrypted.
  const api = entries.filter(({ key }) => !/^\/registry\/(ranges|peerserverleases)\//.test(key));
  return new Map(
    api.map(({ key, value }) => {
      const prefix = value.toString("latin1", 0, 20).startsWith("k8s:enc:") ? "local key" : "clear";
      return [key, parseStoredObject(value)?.keyId ?? prefix];
    }),
  );
}

async function countUnder(standing: string): Promise<number> {
  return [...(await standings()).values()].filter((one) => one === standing).length;
}

async function restartWith(rule: EncryptionRule): Promise<void> {
  await node.apiserver.writeEncryption([rule]);
  await node.apiserver.restart();
}

const statusKeyId = async (): Promise<string> => {
  const args = ["status", "--socket", node.plugin.places.socket, "-o", "json"];
  return (JSON.parse(await kmsPkcs11Ok(args)) as { keyId: string }).keyId;
};

/** Makes the next KEK, active since this number of days, so that the former KEK can be proven unneeded at once. */
async function rotate(daysAgo: number): Promise<string> {
  await node.plugin.stop();
  await token.makeKekOfPast(daysAgo);
  await node.plugin.start();
  return statusKeyId();
}

/** Creates the Secrets whose numbers are in a range. */
async function createSecrets(from: number, to: number): Promise<void> {
  await parallel(to - from, 8, (index) =>
    node.apiserver.client.createSecret(NAMESPACE, name(from + index), `value ${from + index}`),
  );
}

beforeAll(async () => {
  token = await SoftHsmToken.create();
  await token.makeKekOfPast(3);
  cluster = await KmsCluster.start(token, true);
  // The runbook needs a configuration file.
  node = await cluster.addNode({ config: {} });
  const { plugin, apiserver } = node;
  await plugin.start();
  earlier = await statusKeyId();
  await apiserver.writeEncryption([{ resources: ["*.*"], providers: [identityProvider] }]);
  await apiserver.start();
  const { client } = apiserver;
  await client.createNamespace(NAMESPACE);
  await createSecrets(0, SECRETS / 3);
  await parallel(CONFIG_MAPS, 4, (index) => client.createConfigMap(NAMESPACE, name(index), "a value"));
  await installWidgets(client);
  await createWidget(client, NAMESPACE, "w", "a widget");
  await restartWith({ resources: ["secrets"], providers: [local, identityProvider] });
  await createSecrets(SECRETS / 3, (2 * SECRETS) / 3);
  const kms = kmsProvider(plugin.places.socket);
  await restartWith({ resources: ["*.*"], providers: [kms, local, identityProvider] });
  await createSecrets((2 * SECRETS) / 3, SECRETS);
  active = await rotate(2);
  kubeconfig = await apiserver.writeKubeconfig();
});

afterAll(async () => {
  await cluster.stop();
});

const migrateArgs = (...more: readonly string[]): string[] => [
  ...["etcd", "migrate", "--endpoints", cluster.plane.etcd.endpoint, "--kubeconfig", kubeconfig],
  ...["--socket", node.plugin.places.socket, "--encryption-config", node.apiserver.encryptionFile, ...more],
];

interface Report {
  readonly keyId: string;
  readonly rewritten: number;
  readonly overtaken: number;
  readonly passes: number;
  readonly failures: readonly { resource: string; reason: string; example: string }[];
  readonly after: { readonly left: number };
}

describe("etcd migrate", () => {
  it("etcd migrate --dry-run reports what it would rewrite, and rewrites nothing", async () => {
    const before = await cluster.plane.etcd.store.list("/registry/secrets/");
    const { code, stdout } = await kmsPkcs11(migrateArgs("--dry-run", "-o", "json"));
    const report = JSON.parse(stdout) as Report;
    expect([code, report.failures, report.keyId]).toEqual([0, [], active]);
    expect(report.rewritten).toBe(report.after.left);
    expect(report.rewritten).toBeGreaterThan(SECRETS + CONFIG_MAPS);
    expect(await cluster.plane.etcd.store.list("/registry/secrets/")).toEqual(before);
    expect(await countUnder("local key")).toBeGreaterThanOrEqual(SECRETS / 3);
    expect(await countUnder(earlier)).toBeGreaterThanOrEqual(SECRETS / 3);
    expect(await countUnder("clear")).toBeGreaterThan(SECRETS / 3);
  });

  it("an interrupted etcd migrate stops and reports what is left", async () => {
    await until("the API server writes under the active KEK", async () => {
      // The API server asks the plugin for its key_id once a minute, and when its health is requested.
      await node.apiserver.get("/readyz");
      await node.apiserver.client.replaceSecret(NAMESPACE, name(0), "value 0");
      return (await countUnder(active)) > 0;
    });
    const run = ManagedProcess.start({
      name: "etcd migrate",
      command: process.execPath,
      args: [MAIN, ...migrateArgs("--rate", "10", "--concurrency", "2")],
      logFile: join(node.plugin.places.folder, "migrate.log"),
    });
    await until("some objects have been rewritten", async () => (await countUnder(active)) > 20, {
      process: run,
    });
    expect(await run.stop()).toBe("exit code 130");
    expect(run.logTail()).toMatch(
      /[1-9]\d* objects are left at revision \d+; interrupted; run it again to continue/,
    );
    expect((await standings()).size).toBeGreaterThan(await countUnder(active));
  });

  it("etcd migrate, run again, continues and loses no concurrent write", async () => {
    const { client } = node.apiserver;
    const written = new Map<string, string>();
    let isOver = false;
    const write = async (): Promise<void> => {
      for (let round = 0; !isOver; round++) {
        const secret = name(Math.floor(Math.random() * SECRETS));
        const value = `round ${round}`;
        await client.replaceSecret(NAMESPACE, secret, value);
        written.set(secret, value);
      }
    };
    const writing = write();
    const begun = performance.now();
    const { code, stdout, stderr } = await kmsPkcs11(migrateArgs("-o", "json"));
    isOver = true;
    await writing;
    expect(stderr).toBe("");
    const report = JSON.parse(stdout) as Report;
    expect([code, report.after.left, report.failures]).toEqual([0, 0, []]);
    record("etcd-migrate", "objects rewritten after the interruption", report.rewritten);
    record("etcd-migrate", "s for them, at most 100 a second", (performance.now() - begun) / 1000);
    record("etcd-migrate", "Secrets written by others meanwhile", written.size);
    record("etcd-migrate", "of them before the migration came to them", report.overtaken);
    for (let index = 0; index < SECRETS; index++) {
      const value = written.get(name(index)) ?? `value ${index}`;
      expect((await client.readSecret(NAMESPACE, name(index))).toString(), name(index)).toBe(value);
    }
    expect(await readWidget(client, NAMESPACE, "w")).toBe("a widget");
  });

  it("after etcd migrate every object is under the active KEK", async () => {
    const rest = [...(await standings())].filter(([, standing]) => standing !== active);
    expect(rest).toEqual([]);
  });

  it("etcd migrate names objects that the API does not serve, and exits with 1", async () => {
    const key = "/registry/gone.example.com/things/e2e/t";
    await cluster.plane.etcd.store.put(key, Buffer.from('{"kind":"Thing"}'));
    const { code, stdout } = await kmsPkcs11(migrateArgs("-o", "json"));
    await cluster.plane.etcd.store.delete(key);
    const { after, failures } = JSON.parse(stdout) as Report;
    const reason = "the API does not serve this resource";
    expect([code, after.left, failures]).toEqual([
      1,
      1,
      [{ resource: "things.gone.example.com", reason, objects: 1, example: key }],
    ]);
  });
});

describe("deploy/runbooks/key-retirement.md", () => {
  it("the key-retirement runbook retires a KEK, and its commands print what it shows", async () => {
    const { plugin, apiserver } = node;
    const former = active;
    active = await rotate(1);
    // An operator runs the runbook's commands long after the rotation.
    await plugin.ageMemory(60 * 60_000);
    const shell = await RunbookShell.create(plugin.places.folder, {
      ...token.env,
      CONFIG: join(plugin.places.folder, "config.yaml"),
      SOCKET: plugin.places.socket,
      NODES: nodeUrls([plugin]),
      ENCRYPTION: apiserver.encryptionFile,
      KUBECONFIG: kubeconfig,
      ETCDCTL_ENDPOINTS: cluster.plane.etcd.endpoint,
      OLD: former,
    });
    const steps = await readRunbook(new URL("../../deploy/runbooks/key-retirement.md", import.meta.url));
    expect(steps.map(({ command }) => command.split(" ").slice(1, 3).join(" "))).toContain("keys destroy");
    // The API server asks the plugin for its key_id once a minute, and when its health is requested.
    const asking = setInterval(() => void apiserver.get("/readyz").catch(() => undefined), 500);
    try {
      for (const { command, output } of steps) {
        const { code, stdout, stderr } = await shell.run(command);
        expect([command, code, stderr]).toEqual([command, 0, expect.stringMatching(/^(next: .*\n)?$/)]);
        expect(isAsShown(stdout, output), `${command}\n${stdout}`).toBe(true);
      }
    } finally {
      clearInterval(asking);
    }
    expect(await countUnder(active)).toBeGreaterThan(SECRETS);
    expect(await countUnder(former)).toBe(0);
    await plugin.restart();
    await apiserver.restart();
    const { items } = await apiserver.client.core.listNamespacedSecret({ namespace: NAMESPACE });
    expect(items).toHaveLength(SECRETS);
  });
});
