// Destroying a KEK while a clock is wrong, or after it was: what API servers have written or still write under the KEK
// stays readable.

import { rm } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { clockOff } from "../support/faketime.js";
import { nodeUrls, rotateKek, storedKeyIds } from "./harness/keyring.js";
import { KmsCluster, NAMESPACE, type Node } from "./harness/kms-cluster.js";
import type { CommandResult } from "../support/plugin-process.js";
import { kmsPkcs11, kmsPkcs11Ok } from "./harness/kms-pkcs11.js";
import { SoftHsmToken } from "./harness/softhsm-token.js";
import { until } from "./harness/wait.js";

const config = { keys: { refreshInterval: "1s" } };
const SECRETS = 20;

let token: SoftHsmToken;
let cluster: KmsCluster;
let nodes: Node[];
/** The KEK with which all began, and its successor. */
let former: string;
let active: string;
let clusterEtcd: string[];

const at = (index: number): Node => {
  const node = nodes[index];
  if (node === undefined) throw new Error(`there is no node ${index}`);
  return node;
};
const publishedBy = async ({ plugin }: Node): Promise<string | null> =>
  ((await plugin.keys()) as { publishedKeyId: string | null }).publishedKeyId;
const write = async (node: Node, prefix: string, count = SECRETS): Promise<void> => {
  for (let index = 0; index < count; index++) {
    await node.apiserver.client.createSecret(NAMESPACE, `${prefix}-${index}`, `value of ${prefix}`);
  }
};
/** Returns how many Secrets whose names have this prefix are stored under a KEK. */
const countUnder = async (prefix: string, keyId: string): Promise<number> =>
  [...(await storedKeyIds(cluster.plane.etcd, NAMESPACE))].filter(
    ([name, under]) => name.startsWith(prefix) && under === keyId,
  ).length;
const destroy = (
  keyId: string,
  env: Readonly<Record<string, string>>,
  ...proof: string[]
): Promise<CommandResult> => {
  const args = [
    "keys",
    "destroy",
    keyId,
    "--key",
    token.uri(),
    "--nodes",
    nodeUrls(cluster.plugins),
    ...proof,
  ];
  return kmsPkcs11(args, { ...token.env, ...env });
};

async function expectAllReadable(): Promise<void> {
  for (const { apiserver } of nodes) await apiserver.restart();
  for (const { apiserver } of nodes) {
    const { items } = await apiserver.client.core.listNamespacedSecret({ namespace: NAMESPACE });
    expect(items).toHaveLength((await storedKeyIds(cluster.plane.etcd, NAMESPACE)).size);
  }
}

beforeAll(async () => {
  token = await SoftHsmToken.create();
  cluster = await KmsCluster.start(token);
  nodes = [];
  for (let index = 0; index < 3; index++) nodes.push(await cluster.startNode({ config }));
  former = (await publishedBy(at(0))) ?? "";
  clusterEtcd = ["--endpoints", cluster.plane.etcd.endpoint];
});

afterAll(() => cluster.stop());

describe("the former KEK", () => {
  it("the former KEK stays while API servers write under it, if the operator's clock is ahead", async () => {
    const { keyId } = await rotateKek(
      token,
      "--activate-in",
      "15s",
      "--wait",
      "--nodes",
      nodeUrls(cluster.plugins),
    );
    active = keyId;
    // A probe asks for Status at the instant; the API servers last asked a while ago.
    await until("every plugin has changed", async () => {
      for (const { places } of cluster.plugins) await kmsPkcs11(["status", "--socket", places.socket]);
      return (await Promise.all(nodes.map(publishedBy))).every((one) => one === keyId);
    });
    for (const node of nodes) await write(node, `late-${node.plugin.name}`);
    expect(await countUnder("late", former)).toBeGreaterThan(0);

    // An API server asks for Status once a minute, and sooner if its health is requested.
    const { apiserver } = at(0);
    await until(
      "nothing is under it",
      async () => {
        await apiserver.get("/readyz");
        await apiserver.client.rewriteSecrets();
        return (await countUnder("", former)) === 0;
      },
      { timeoutMs: 120_000, intervalMs: 1_000 },
    );
    const report = join(at(0).plugin.places.folder, "usage.json");
    const ahead = clockOff("+30m");
    await kmsPkcs11Ok(["etcd", "usage", ...clusterEtcd, "--report", report], ahead);
    const refused = await destroy(former, ahead, "--usage-report", report);
    expect([refused.code, refused.stderr]).toEqual([
      1,
      expect.stringMatching(/its clock is 1[78]\d\d\.\d s (ahead of|behind).*nothing was destroyed/s),
    ]);
    const list = await kmsPkcs11(["keys", "list", "--nodes", nodeUrls(cluster.plugins)], ahead);
    expect([list.code, list.stdout]).toEqual([1, expect.stringContaining("this machine: its clock is")]);
    // With correct clocks the nodes themselves report when they left it.
    const early = await destroy(former, {}, ...clusterEtcd);
    expect([early.code, early.stderr]).toEqual([1, expect.stringContaining("nothing was destroyed")]);
    await expectAllReadable();
  });
});

describe("a standby KEK that a node has used while its clock was an hour ahead", () => {
  let standby: string;

  it("a used standby KEK stays if the node remembers its use, or has lost its memory", async () => {
    standby = (await rotateKek(token, "--activate-in", "30m")).keyId;
    const late = at(2);
    const restart = async (env: Readonly<Record<string, string>>): Promise<void> => {
      await late.plugin.stop();
      late.plugin.env = env;
      await late.plugin.start();
    };
    await restart(clockOff("+1h"));
    let written = 0;
    await until(
      "its API server writes under it",
      async () => {
        await late.apiserver.get("/readyz");
        await write(late, `ahead-${written++}`, 1);
        return (await countUnder("ahead", standby)) > 0;
      },
      { timeoutMs: 90_000, intervalMs: 1_000 },
    );
    await write(late, "ahead");
    expect(await countUnder("ahead", standby)).toBeGreaterThan(SECRETS);

    await restart({});
    await until("it keeps using it", async () => (await publishedBy(late)) === standby);
    expect((await destroy(standby, {})).stderr).toContain(`${standby} is active there`);

    await late.plugin.stop();
    await rm(late.plugin.places.stateFolder, { recursive: true });
    await late.plugin.start();
    await until(
      "it has forgotten it",
      async () => {
        await late.apiserver.get("/readyz");
        return (await publishedBy(late)) === active;
      },
      { timeoutMs: 90_000 },
    );
    const forgotten = await destroy(standby, {});
    expect([forgotten.code, forgotten.stderr]).toEqual([
      1,
      expect.stringMatching(
        /it remembers only since .*, and the KEK was made at .*give --usage-report or --endpoints/s,
      ),
    ]);
    const looked = await destroy(standby, {}, ...clusterEtcd);
    expect([looked.code, looked.stderr]).toEqual([
      1,
      expect.stringMatching(
        /etcd: \d+ objects are under it|until \S+, API servers may still encrypt under the KEK/,
      ),
    ]);
    await expectAllReadable();
  });

  it("a used standby KEK stays if etcd holds an object under it, whatever nodes report", async () => {
    const remembering = nodeUrls(cluster.plugins.slice(0, 2));
    const args = ["keys", "destroy", standby, "--key", token.uri(), "--nodes", remembering];
    const refused = await kmsPkcs11(args, { ...token.env, ETCDCTL_ENDPOINTS: cluster.plane.etcd.endpoint });
    expect([refused.code, refused.stderr]).toEqual([
      1,
      expect.stringContaining("objects are under it (secrets)"),
    ]);
    await expectAllReadable();
  });
});
