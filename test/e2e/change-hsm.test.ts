// deploy/runbooks/change-hsm.md from SoftHSM to NSS softokn and back: its commands print what it shows, nothing becomes
// unreadable, and a snapshot from before still opens with the old token.

import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { createNss, type Nss } from "../support/nss.js";
import { identityProvider, kmsProvider, type Provider } from "./harness/encryption-configuration.js";
import { saveSnapshot } from "../support/etcd-history.js";
import type { HsmToken } from "./harness/hsm-token.js";
import { storedKeyIds } from "./harness/keyring.js";
import { KmsCluster, NAMESPACE, type Node } from "./harness/kms-cluster.js";
import { Plugin } from "./harness/plugin.js";
import { newFolder } from "./harness/run.js";
import { isAsShown, readRunbook, RunbookShell, type StepResult } from "./harness/runbook.js";
import { SoftHsmToken } from "./harness/softhsm-token.js";

const RUNBOOK = new URL("../../deploy/runbooks/change-hsm.md", import.meta.url);
const NAMES = Array.from({ length: 10 }, (_, index) => `s-${index}`);

/** An HSM with its plugin, and the name of its provider. */
interface Side {
  readonly token: HsmToken;
  readonly plugin: Plugin;
  readonly provider: string;
}

let nss: Nss;
let cluster: KmsCluster;
let node: Node;
let kubeconfig: string;
let asking: NodeJS.Timeout;
let first: Side;

beforeAll(async () => {
  nss = createNss();
  const token = await SoftHsmToken.create();
  cluster = await KmsCluster.start(token);
  node = await cluster.startNode({ config: {} });
  first = { token, plugin: node.plugin, provider: "hsm" };
  kubeconfig = await node.apiserver.writeKubeconfig();
  for (const name of NAMES) await node.apiserver.client.createSecret(NAMESPACE, name, `value of ${name}`);
  // An API server asks a plugin for its key_id once a minute, and when its health is requested.
  asking = setInterval(() => void node.apiserver.get("/readyz").catch(() => undefined), 500);
});

afterAll(async () => {
  clearInterval(asking);
  await cluster.stop();
  nss.remove();
});

const nssToken = (): HsmToken => ({
  env: {},
  uri: (object = "kms-kek") =>
    `pkcs11:token=${encodeURIComponent(nss.label)};object=${object}?module-path=${nss.modulePath}&pin-source=file:${nss.pinFile}`,
});

/** Prepares the plugin on another HSM, which the runbook starts after its KEK was made. */
async function prepare(token: HsmToken, name: string, moduleParameters?: string): Promise<Side> {
  const config = moduleParameters === undefined ? {} : { module: { parameters: moduleParameters } };
  const plugin = await Plugin.create({ token, name, config });
  cluster.plugins.push(plugin);
  return { token, plugin, provider: name };
}

/** Has the API server use these providers, in this order. */
async function configure(...sides: Side[]): Promise<void> {
  const kms = sides.map(({ plugin, provider }): Provider =>
    kmsProvider(plugin.places.socket, { name: provider }),
  );
  await node.apiserver.writeEncryption([{ resources: ["secrets"], providers: [...kms, identityProvider] }]);
  await node.apiserver.restart();
}

const expectReadable = async (): Promise<void> => {
  for (const name of NAMES) {
    expect((await node.apiserver.client.readSecret(NAMESPACE, name)).toString()).toBe(`value of ${name}`);
  }
};

/** Runs a command again that a busy machine was too slow for (exit code 3), a few times at most. */
async function patiently(shell: RunbookShell, command: string): Promise<StepResult> {
  for (let attempt = 1; ; attempt++) {
    const result = await shell.run(command);
    if (result.code !== 3 || attempt === 5) return result;
  }
}

/** Follows the runbook from one HSM to the other. */
async function change(from: Side, to: Side): Promise<void> {
  const { etcd } = cluster.plane;
  const backup = join(await newFolder("backup"), "snapshot.db");
  await saveSnapshot(etcd.store, backup);
  const [former = ""] = new Set((await storedKeyIds(etcd, NAMESPACE)).values());
  const shell = await RunbookShell.create(await newFolder("runbook"), {
    ...from.token.env,
    ...to.token.env,
    OLD_CONFIG: join(from.plugin.places.folder, "config.yaml"),
    NEW_CONFIG: join(to.plugin.places.folder, "config.yaml"),
    OLD_SOCKET: from.plugin.places.socket,
    NEW_SOCKET: to.plugin.places.socket,
    ENCRYPTION: node.apiserver.encryptionFile,
    KUBECONFIG: kubeconfig,
    ETCDCTL_ENDPOINTS: etcd.endpoint,
    BACKUP: backup,
    OLD: former,
  });
  const section = async (name: string, commands: number): Promise<void> => {
    const steps = await readRunbook(RUNBOOK, name);
    expect(steps, name).toHaveLength(commands);
    for (const { command, output } of steps) {
      const { code, stdout, stderr } = await patiently(shell, command);
      expect([command, code], `${stdout}${stderr}`).toEqual([command, 0]);
      expect(isAsShown(stdout, output), `${command}\n${stdout}`).toBe(true);
    }
  };
  await section("Before", 3);
  await to.plugin.start();
  await configure(from, to);
  await section("Read", 2);
  await configure(to, from);
  await expectReadable();
  await section("Migrate", 1);
  await section("Prove", 2);
  await configure(to);
  await from.plugin.stop();
  await section("Remove", 2);
  await expectReadable();
  expect((await storedKeyIds(etcd, NAMESPACE)).values()).not.toContain(former);
}

it("the runbook changes the HSM from SoftHSM to NSS softokn and back", async () => {
  const second = await prepare(nssToken(), "second", nss.moduleParameters);
  await change(first, second);
  const third = await prepare(await SoftHsmToken.create("third"), "third");
  await change(second, third);
}, 600_000);
