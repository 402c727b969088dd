// Two nodes by the commands of several-nodes.md: the plugin comes to a cluster that runs already, and a second control-plane node
// joins it. Both have one network HSM. The cases share the nodes and run in this order.

import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, inject, it } from "vitest";
import { record } from "../e2e/harness/report.js";
import { binaries } from "../e2e/harness/run.js";
import { Cluster } from "./harness/cluster.js";
import { followGuide } from "./harness/guide.js";
import { bootEmptyNode, GUIDE, IGNORED, INSTALL, SECRET } from "./harness/installed-node.js";
import { KubernetesNode } from "./harness/kubernetes-node.js";
import { A_DAY_MS, lookAround } from "./harness/look-around.js";
import { NetworkHsm, PIN } from "./harness/network-hsm.js";
import { allowRemoteLogin } from "./harness/remote-login.js";

const PAGE = "several-nodes.md";
const FILES = "Bring two files to the node";
/** What the operator does in an editor: adds the settings that init has written to kubeadm's ConfigMap. */
const ADD_API_SERVER_SETTINGS = `#!/bin/sh
sed -n '/^apiServer:/,$s/^/    /p' /etc/kms-pkcs11/api-server/kubeadm.yaml >/run/settings
sed -i -e '/^    apiServer: {}$/{r /run/settings' -e 'd}' "$1"
`;

const folder = join(inject("runFolder"), "several");
const hsm = new NetworkHsm(join(folder, "hsm"), join(folder, "token"));
const nodeNumber = (number: number): KubernetesNode =>
  new KubernetesNode(`several-${number}`, join(folder, `node-${number}`), binaries(), {
    hostName: `node-${number}`,
    address: `10.77.0.${number}`,
    hsm: join(folder, "hsm"),
  });
const [first, second] = [nodeNumber(1), nodeNumber(2)];
const cluster = new Cluster(first);
/** The API server of the second node. kubectl asks the first one otherwise. */
const OTHER = `kubectl --server https://${second.address}:6443`;

beforeAll(async () => {
  await Promise.all([first, second].map(bootEmptyNode));
  await first.connect(second);
  await allowRemoteLogin([first, second], `${binaries()}:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`);
  await hsm.create();
  await writeFile(join(first.folder, "opt.upper/install/editor"), ADD_API_SERVER_SETTINGS, { mode: 0o755 });
  await startCluster();
  await cluster.createSecret("before", SECRET);
  for (const node of [first, second]) await followGuide(node, GUIDE, { ...OPERATOR, sections: [FILES] });
  await followGuide(first, GUIDE, { ...OPERATOR, sections: ["The node's files", "The KEK"] });
}, 900_000);

afterAll(async () => {
  await lookAround(first, join(folder, "running"));
  await hsm.kill();
  for (const node of [first, second]) await node.remove();
}, A_DAY_MS);

/** Starts a cluster without the plugin on the first node. */
async function startCluster(): Promise<void> {
  const own = [
    "apiVersion: kubeadm.k8s.io/v1beta4",
    "kind: ClusterConfiguration",
    `controlPlaneEndpoint: ${first.address}:6443`,
  ];
  await first.run(`cat >>${INSTALL}/machine.yaml`, { input: `${own.join("\n")}\n` });
  const version = 'echo "kubernetesVersion: $(kubeadm version -o short)" >>machine.yaml';
  const init = `kubeadm init --config machine.yaml --skip-phases=addon --ignore-preflight-errors=${IGNORED}`;
  await first.run(`cd ${INSTALL} && ${version} && ${init}`, { timeoutMs: 300_000 });
}

const OPERATOR = { folder: INSTALL, typed: PIN, instead };

/** What these nodes need besides what the pages say. A program types the PIN here, which has no terminal. */
function instead(command: string): string {
  if (command.endsWith(" edit configmap kubeadm-config")) return `KUBE_EDITOR=${INSTALL}/editor ${command}`;
  return command
    .replace("'nodes: one'", "'nodes: several'")
    .replace(/^ssh -t (.*)/, "ssh $1 --pin-stdin")
    .replace("--ignore-preflight-errors=", `--ignore-preflight-errors=${IGNORED},`);
}

async function follow(section: string): Promise<void> {
  const start = Date.now();
  await followGuide(first, PAGE, { ...OPERATOR, sections: [section], after: GUIDE });
  record("several nodes", `${section}, s`, (Date.now() - start) / 1000);
}

it("several nodes: init writes the same answers on the second node", async () => {
  await follow("The same answers");
  expect(await second.run("cat /etc/kms-pkcs11/init.yaml")).toBe(
    await first.run("cat /etc/kms-pkcs11/init.yaml"),
  );
});

it("several nodes: the API server of a running cluster reads what the plugin encrypts", async () => {
  await follow("A cluster that runs already");
  const manifest = await first.run("cat /etc/kubernetes/manifests/kube-apiserver.yaml");
  expect(manifest).toContain("--encryption-provider-config=");
  expect(await cluster.readSecret("before")).toBe(SECRET);
  expect(await cluster.storedSecret("before")).toContain(SECRET);
});

it("several nodes: the second node joins with the plugin's pod in place", async () => {
  await follow("Join");
  const manifest = await second.run("cat /etc/kubernetes/manifests/kube-apiserver.yaml");
  expect(manifest).toContain("--encryption-provider-config=");
  expect(await first.run(`${OTHER} get --raw /readyz`)).toBe("ok");
});

it("several nodes: both plugins name the same KEK", async () => {
  await follow("The same KEK");
});

it("several nodes: what one API server encrypts, the other reads", async () => {
  await follow("Write");
  const read = `${OTHER} get secret before -o jsonpath={.data.value} | base64 -d`;
  expect((await cluster.storedSecret("before")).startsWith("k8s:enc:kms:v2:kms-pkcs11:")).toBe(true);
  expect(await first.run(read)).toBe(SECRET);
  await first.run(`${OTHER} create secret generic other --from-literal=value=${SECRET}`);
  expect((await cluster.storedSecret("other")).startsWith("k8s:enc:kms:v2:kms-pkcs11:")).toBe(true);
  expect(await cluster.readSecret("other")).toBe(SECRET);
});
