// A node of kubeadm with the plugin as a static pod loses its power, with and without its HSM, and at last the plugin. The cases
// share the node and run in this order; each leaves it healthy.

import { expect, it } from "vitest";
import { record } from "../e2e/harness/report.js";
import { until } from "../e2e/harness/wait.js";
import { PLUGIN } from "./harness/cluster.js";
import { SECRET, useInstalledNode } from "./harness/installed-node.js";

const { cluster, follow, hsm, node } = useInstalledNode("power-node");

it("power: after the plug was pulled, the node recovers without help", async () => {
  await node.pullPlug();
  await node.boot();
  record("power", "Secret readable after the boot, s", await cluster.untilReadable("before", SECRET));
  await cluster.createSecret("after-power", SECRET);
});

it("reboot: started without its HSM, the plugin waits, and the cluster returns with the HSM", async () => {
  await hsm.kill();
  await node.pullPlug();
  await node.boot();
  record("reboot", "the plugin lives after, s", await cluster.untilPlugin("/livez", 200));
  const plugin = (await cluster.containers()).get("kms-pkcs11");
  const start = Date.now();
  const answers = new Set<number>();
  const aMinute = async (): Promise<boolean> => {
    answers.add(await node.httpStatus(`${PLUGIN}/readyz`));
    return Date.now() - start > 60_000;
  };
  await until("a minute without the HSM", aMinute, { timeoutMs: 120_000, intervalMs: 2000 });
  expect([...answers]).toEqual([503]);
  await hsm.start();
  record(
    "reboot",
    "Secret readable after the HSM's return, s",
    await cluster.untilReadable("before", SECRET),
  );
  expect((await cluster.containers()).get("kms-pkcs11")).toEqual(plugin);
});

it("removal too early: without the pod a restart ends all reads, until init writes it again", async () => {
  await node.run("rm /etc/kubernetes/manifests/kms-pkcs11.yaml");
  const isGone = async (): Promise<boolean> => (await cluster.containers()).get("kms-pkcs11") === undefined;
  expect(await cluster.failedReads("before", SECRET, isGone, { timeoutMs: 120_000 })).toEqual([]);
  await node.run("crictl stop $(crictl ps -q --name kube-apiserver)");
  const read = "timeout 10 kubectl get secret before";
  await until(
    "reads that fail for want of the plugin",
    async () => /transform|decrypt|kms/i.test((await node.try(read)).stderr),
    { timeoutMs: 180_000, intervalMs: 1000 },
  );
  await node.run("kms-pkcs11 init --values /etc/kms-pkcs11/init.yaml");
  record(
    "removal",
    "Secret readable after the pod is back, s",
    await cluster.untilReadable("before", SECRET),
  );
  await until("the API server is ready", async () => (await node.run("kubectl get --raw /readyz")) === "ok", {
    timeoutMs: 300_000,
    intervalMs: 1000,
  });
});

it("removal: the page's commands store Secrets in clear, and leave only what it names", async () => {
  const start = Date.now();
  await follow("removal.md", [
    ...["Write in clear", "Prove it", "The API server of kubeadm", "The rest of the plugin"],
  ]);
  record("removal", "by the page's commands, s", (Date.now() - start) / 1000);
  expect(await cluster.storedSecret("before")).toContain(SECRET);
  expect(await cluster.readSecret("before")).toBe(SECRET);
  await cluster.createSecret("after-removal", SECRET);
  expect(await cluster.storedSecret("after-removal")).toContain(SECRET);
  const left =
    "find /etc /opt /run /usr/local /var -xdev -path /opt/install -prune -o -name '*kms-pkcs11*' -print -prune | sort";
  const onlyNamed = async (): Promise<boolean> =>
    (await node.run(left)) === "/var/lib/kms-pkcs11\n/var/log/kms-pkcs11\n";
  await until(`nothing else of the plugin: ${await node.run(left)}`, onlyNamed, { timeoutMs: 120_000 });
  expect(await node.run("kubectl get --raw /readyz")).toBe("ok");
});
