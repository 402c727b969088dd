// A node with its HSM, on which the plugin is installed before the cases of a file run.

import { copyFile, mkdir, readdir, rename, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { afterAll, beforeAll, inject } from "vitest";
import { record } from "../../e2e/harness/report.js";
import { binaries } from "../../e2e/harness/run.js";
import { Cluster, machineConfiguration } from "./cluster.js";
import { followGuide } from "./guide.js";
import { KubernetesNode } from "./kubernetes-node.js";
import { A_DAY_MS, lookAround } from "./look-around.js";
import { NetworkHsm, PIN } from "./network-hsm.js";

/** What the node sees as its folder for the installation. */
export const INSTALL = "/opt/install";
export const GUIDE = "install-kubeadm.md";
/** Checks that this node cannot pass: it has neither systemd nor a configuration of its kernel. */
export const IGNORED = "SystemVerification,FileContent--proc-sys-net-ipv4-ip_forward,Service-Kubelet";

/** An editor of kubeadm's ConfigMap: removes what it sets for the API server, which is only the plugin's. */
const DELETE_API_SERVER_SETTINGS = `#!/bin/sh
sed -i '/^ *apiServer:$/,/^ *apiVersion:/{s/apiServer:$/apiServer: {}/;/apiServer\\|apiVersion/!d}' "$1"
`;

export interface InstalledNode {
  readonly node: KubernetesNode;
  readonly hsm: NetworkHsm;
  readonly cluster: Cluster;
  /** Runs the commands of these sections of a page of deploy/, as the operator who has installed the plugin. */
  readonly follow: (page: string, sections: readonly string[]) => Promise<void>;
}

/** What the Secret "before" holds. */
export const SECRET = "correct-horse-battery";

/** Declares a node that is installed, to the Secret "before", for the cases of a file. @param name unique on this machine */
export function useInstalledNode(name: string): InstalledNode {
  const folder = join(inject("runFolder"), name);
  const node = new KubernetesNode(name, folder, binaries());
  const hsm = new NetworkHsm(join(folder, "hsm"), join(inject("runFolder"), `${name}-hsm`));
  const cluster = new Cluster(node);
  beforeAll(async () => {
    await install(node, hsm);
    await cluster.createSecret("before", SECRET);
  }, 600_000);
  afterAll(async () => {
    await lookAround(node, join(folder, "running"));
    await hsm.kill();
    await node.remove();
  }, A_DAY_MS);
  const follow = async (page: string, sections: readonly string[]): Promise<void> => {
    await followGuide(node, page, { folder: INSTALL, typed: PIN, instead, sections, after: GUIDE });
  };
  return { node, hsm, cluster, follow };
}

/** Boots the node and its HSM, and installs the plugin. */
async function install(node: KubernetesNode, hsm: NetworkHsm): Promise<void> {
  await bootEmptyNode(node);
  await hsm.create();
  const installed = Date.now();
  const steps = await followGuide(node, GUIDE, { folder: INSTALL, typed: PIN, instead });
  record(node.name, `installed by ${steps} commands, s`, (Date.now() - installed) / 1000);
}

/** Boots a node that has the files to install and the images of the control plane. */
export async function bootEmptyNode(node: KubernetesNode): Promise<void> {
  await putFiles(node);
  const start = Date.now();
  await node.boot();
  const unpack = "mkdir -p images && tar -xf control-plane.tar -C images";
  const importAll = "for image in images/*.image; do ctr -n k8s.io images import $image || exit 1; done";
  await node.run(`cd ${INSTALL} && ${unpack} && ${importAll}`, { timeoutMs: 300_000 });
  record(node.name, "booted, control plane's images imported, s", (Date.now() - start) / 1000);
}

/**
 * `kubeadm init` gets the guide's file and, beside it, what only this machine needs. Without a version it asks the internet. What
 * the operator deletes in an editor, a command deletes.
 */
function instead(command: string): string {
  if (command === "systemctl daemon-reload") return "true";
  if (command.endsWith(" edit configmap kubeadm-config")) return `KUBE_EDITOR=${INSTALL}/editor ${command}`;
  const version = 'echo "kubernetesVersion: $(kubeadm version -o short)"';
  return command.replace(
    /^kubeadm init --config (\S+)$/,
    (_, file: string) =>
      `{ cat machine.yaml ${file} && ${version}; } >kubeadm.yaml && ` +
      `kubeadm init --config kubeadm.yaml --skip-phases=addon --ignore-preflight-errors=${IGNORED}`,
  );
}

/** Puts the files to install on the node's disk. */
async function putFiles(node: KubernetesNode): Promise<void> {
  const install = join(node.folder, "opt.upper/install");
  const archives = inject("archives");
  const tarball = inject("tarball");
  await mkdir(install, { recursive: true });
  for (const name of await readdir(archives)) {
    if (/\.tar(\.gz)?$/.test(name)) await copyFile(join(archives, name), join(install, name));
  }
  await copyFile(tarball, join(install, basename(tarball)));
  await rename(join(install, "plugin.tar"), join(install, "kubernetes-kms-pkcs11-0.1.0.tar"));
  await rename(join(install, "plugin-next.tar"), join(install, "kubernetes-kms-pkcs11-0.2.0.tar"));
  await writeFile(join(install, "editor"), DELETE_API_SERVER_SETTINGS, { mode: 0o755 });
  await writeFile(join(install, "machine.yaml"), machineConfiguration(node));
}
