// A node of kubeadm with the plugin as a static pod loses its power, with and without its HSM. The cases share the node and run in
// this order; each leaves it healthy.

import { expect, it } from "vitest";
import { record } from "../e2e/harness/report.js";
import { until } from "../e2e/harness/wait.js";
import { PLUGIN } from "./harness/cluster.js";
import { SECRET, useInstalledNode } from "./harness/installed-node.js";

const { cluster, hsm, node } = useInstalledNode("power-node");

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
