// The plugin as a static pod on a node of kubeadm, through everything that happens to it while the node runs. The cases share the
// node and run in this order; each leaves it healthy.

import { expect, it } from "vitest";
import { record } from "../e2e/harness/report.js";
import { until } from "../e2e/harness/wait.js";
import type { ContainerState } from "./harness/cluster.js";
import { commandOf } from "./harness/guide.js";
import { SECRET, useInstalledNode } from "./harness/installed-node.js";

const OUTAGE_MS = 120_000;
/** A new API server first refuses the pod's priority class; kubelet reports the pod again up to 90 s later. */
const POD_MS = 180_000;
/** The release that upgrade.md names. */
const NEXT = "0.2.0";
const FILES = "The node's files";
const CONFIG = "--config /etc/kms-pkcs11/config.yaml";

const { cluster, follow, hsm, node } = useInstalledNode("node");

/** The ids of the running containers: a container that was started again has another. */
function ids(containers: ReadonlyMap<string, ContainerState>): Record<string, string> {
  return Object.fromEntries([...containers].map(([name, { id }]) => [name, id]));
}

it("install: a Secret is encrypted in etcd and read back", async () => {
  const stored = await cluster.storedSecret("before");
  expect(stored.startsWith("k8s:enc:kms:v2:kms-pkcs11:")).toBe(true);
  expect(stored).not.toContain(SECRET);
  expect(await cluster.readSecret("before")).toBe(SECRET);
});

it("rotation: a new KEK is awaited on the node, and new objects are encrypted under it", async () => {
  const rotate = `kms-pkcs11 keys rotate ${CONFIG} --activate-in 60s --wait --nodes http://127.0.0.1:8090`;
  const start = Date.now();
  await node.run(rotate, { timeoutMs: 120_000 });
  record("rotation", "keys rotate --wait --nodes, s", (Date.now() - start) / 1000);
  const activeKeyId = async (): Promise<string> =>
    (JSON.parse(await node.run("kms-pkcs11 status -o json")) as { keyId: string }).keyId;
  const old = await activeKeyId();
  await until("the switch", async () => (await activeKeyId()) !== old, {
    timeoutMs: 120_000,
    intervalMs: 500,
  });
  record("rotation", "the plugin has switched after, s", (Date.now() - start) / 1000);
  const next = await activeKeyId();
  let attempt = 0;
  await until(
    "a Secret under the new KEK",
    async () => {
      const name = `rotated-${String(attempt++)}`;
      await cluster.createSecret(name, SECRET);
      return (await cluster.storedSecret(name)).includes(next);
    },
    { timeoutMs: 180_000, intervalMs: 2000 },
  );
  expect(await cluster.readSecret("before")).toBe(SECRET);
});

it("reload: the page's command makes a changed file take effect in the pod, without a restart", async () => {
  const before = ids(await cluster.containers());
  const log = `crictl logs ${before["kms-pkcs11"] ?? ""} 2>&1`;
  expect(await node.run(log)).not.toContain("a changed setting is in force");
  // As most editors do, sed replaces the file with a new one.
  await node.run("sed -i '$a log: { level: debug }' /etc/kms-pkcs11/config.yaml");
  await node.run(await commandOf("configuration.md", "kill -HUP"));
  await until("the new setting", async () =>
    /log\.level.*a changed setting is in force/.test(await node.run(log)),
  );
  await cluster.untilPlugin("/readyz", 200);
  await node.run("sed -i '$d' /etc/kms-pkcs11/config.yaml");
  await node.run(await commandOf("configuration.md", "kill -HUP"));
  await until("the old setting again", async () => (await node.run(log)).split("is in force").length === 3);
  expect(ids(await cluster.containers())).toEqual(before);
});

it("outage: with the HSM away for two minutes nothing restarts, and readiness reports it", async () => {
  await until("the pod is ready", () => cluster.isPodReady(), { timeoutMs: POD_MS });
  const before = ids(await cluster.containers());
  await hsm.kill();
  const start = Date.now();
  record("outage", "/readyz of the plugin reports it after, s", await cluster.untilPlugin("/readyz", 503));
  await until("the pod is unready", async () => !(await cluster.isPodReady()), { timeoutMs: 60_000 });
  record("outage", "the pod is unready after, s", (Date.now() - start) / 1000);
  const failed = await cluster.failedReads("before", SECRET, () => Date.now() - start > OUTAGE_MS, {
    timeoutMs: 2 * OUTAGE_MS,
  });
  expect(failed).toEqual([]);
  await hsm.start();
  record(
    "outage",
    "/readyz of the plugin after the HSM's return, s",
    await cluster.untilPlugin("/readyz", 200),
  );
  await until("the pod is ready", () => cluster.isPodReady(), { timeoutMs: POD_MS });
  expect(ids(await cluster.containers())).toEqual(before);
  await cluster.createSecret("after-outage", SECRET);
});

it("crictl: kubelet starts the stopped container again, and reads and writes continue", async () => {
  const { "kms-pkcs11": before, "kube-apiserver": apiserver } = ids(await cluster.containers());
  await node.run(`crictl stop ${before}`);
  const start = Date.now();
  const isReplaced = async (): Promise<boolean> => {
    const { "kms-pkcs11": now } = ids(await cluster.containers());
    return now !== undefined && now !== before;
  };
  expect(await cluster.failedReads("before", SECRET, isReplaced, { timeoutMs: 120_000 })).toEqual([]);
  await cluster.untilPlugin("/readyz", 200);
  record("crictl", "the plugin is ready again after, s", (Date.now() - start) / 1000);
  await cluster.createSecret("after-crictl", SECRET);
  expect(ids(await cluster.containers())["kube-apiserver"]).toBe(apiserver);
});

/** Waits until kubelet runs the plugin from another image; returns the reads that failed meanwhile. */
async function readsUntilAnotherImage(before: ContainerState | undefined): Promise<string[]> {
  const isReplaced = async (): Promise<boolean> => {
    const now = (await cluster.containers()).get("kms-pkcs11");
    return now !== undefined && now.image !== before?.image;
  };
  return cluster.failedReads("before", SECRET, isReplaced, { timeoutMs: 400_000 });
}

it("upgrade: the page's commands replace image and tools while the API server runs", async () => {
  const before = await cluster.containers();
  await follow("upgrade.md", ["Before each node", "The tarball", "The image of a static pod", FILES]);
  const start = Date.now();
  expect(await readsUntilAnotherImage(before.get("kms-pkcs11"))).toEqual([]);
  await cluster.untilPlugin("/readyz", 200);
  record("upgrade", "the new image is ready after, s", (Date.now() - start) / 1000);
  await follow("upgrade.md", ["After each node"]);
  expect(await node.run("kms-pkcs11 version")).toContain(NEXT);
  await cluster.createSecret("after-upgrade", SECRET);
  expect((await cluster.containers()).get("kube-apiserver")).toEqual(before.get("kube-apiserver"));
});

it("upgrade back: the page's commands return to the earlier release, with the same KEK", async () => {
  const before = await cluster.containers();
  await follow("upgrade.md", ["Going back"]);
  expect(await readsUntilAnotherImage(before.get("kms-pkcs11"))).toEqual([]);
  await cluster.untilPlugin("/readyz", 200);
  await follow("upgrade.md", ["After each node"]);
  expect(await node.run("kms-pkcs11 version")).not.toContain(NEXT);
  expect(await cluster.readSecret("after-upgrade")).toBe(SECRET);
  expect((await cluster.containers()).get("kube-apiserver")).toEqual(before.get("kube-apiserver"));
});

it("upgrade half way: an incomplete tarball changes nothing, and can be unpacked again", async () => {
  const tarball = `/opt/install/kubernetes-kms-pkcs11-${NEXT}-linux-x64.tar.gz`;
  await node.run(`mv ${tarball} ${tarball}.whole && head -c 20000000 ${tarball}.whole >${tarball}`);
  await expect(follow("upgrade.md", ["The tarball"])).rejects.toThrow(/tar .*exit code/);
  expect(await node.run("kms-pkcs11 version")).not.toContain(NEXT);
  await node.run(`mv ${tarball}.whole ${tarball}`);
  await follow("upgrade.md", ["The tarball"]);
  expect(await node.run("kms-pkcs11 version")).toContain(NEXT);
});

it("upgrade without the image: reads continue, and the pod starts once the image is there", async () => {
  await node.run(`ctr -n k8s.io images rm docker.io/library/kubernetes-kms-pkcs11:${NEXT}`);
  const before = await cluster.containers();
  await follow("upgrade.md", [FILES]);
  const isGone = async (): Promise<boolean> => (await cluster.containers()).get("kms-pkcs11") === undefined;
  expect(await cluster.failedReads("before", SECRET, isGone, { timeoutMs: 120_000 })).toEqual([]);
  await follow("upgrade.md", ["The image of a static pod"]);
  const start = Date.now();
  expect(await readsUntilAnotherImage(before.get("kms-pkcs11"))).toEqual([]);
  await cluster.untilPlugin("/readyz", 200);
  record("upgrade", "the pod runs after its image was imported late, s", (Date.now() - start) / 1000);
  await follow("upgrade.md", ["After each node"]);
  expect((await cluster.containers()).get("kube-apiserver")).toEqual(before.get("kube-apiserver"));
});
