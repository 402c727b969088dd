// etcd and kube-apiserver as systemd units of a machine, without encryption yet, and root's kubeconfig for them: what a node has
// before the plugin is installed on it.

import { generateKeyPairSync } from "node:crypto";
import { until } from "../../e2e/harness/wait.js";
import type { Machine } from "./machine.js";

const FOLDER = "/etc/kubernetes";
const ADDRESS = "https://127.0.0.1:6443";
const TOKEN = "root-of-this-machine";
const KUBECONFIG = `${FOLDER}/admin.conf`;

const APISERVER = [
  "/opt/kubernetes/kube-apiserver",
  "--etcd-servers=http://127.0.0.1:2379",
  "--bind-address=127.0.0.1",
  "--advertise-address=127.0.0.1",
  "--endpoint-reconciler-type=none",
  "--service-cluster-ip-range=10.96.0.0/24",
  `--cert-dir=${FOLDER}/pki`,
  `--token-auth-file=${FOLDER}/tokens.csv`,
  "--authorization-mode=RBAC",
  "--service-account-issuer=https://kubernetes.default.svc",
  `--service-account-key-file=${FOLDER}/pki/sa.key`,
  `--service-account-signing-key-file=${FOLDER}/pki/sa.key`,
  // No controller manager creates service accounts here.
  "--disable-admission-plugins=ServiceAccount",
];

/** Installs and starts both units, and returns when the API server is ready. */
export async function startControlPlane(machine: Machine): Promise<void> {
  const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const pem = privateKey.export({ type: "pkcs8", format: "pem" }).toString();
  await write(machine, `${FOLDER}/pki/sa.key`, pem);
  await write(machine, `${FOLDER}/tokens.csv`, `${TOKEN},root,root,system:masters\n`);
  await write(
    machine,
    "/etc/systemd/system/etcd.service",
    unit("/opt/kubernetes/etcd --data-dir=/var/lib/etcd"),
  );
  await write(machine, "/etc/systemd/system/kube-apiserver.service", unit(APISERVER.join(" "), "etcd"));
  await machine.run("systemctl daemon-reload && systemctl enable --now --quiet etcd kube-apiserver");
  const ready = `curl -sf --cacert ${FOLDER}/pki/apiserver.crt -H 'Authorization: Bearer ${TOKEN}' ${ADDRESS}/readyz`;
  await until("the API server", async () => (await machine.try(ready)).code === 0, {
    timeoutMs: 120_000,
    intervalMs: 500,
  });
  const ca = await machine.run(`base64 -w 0 ${FOLDER}/pki/apiserver.crt`);
  await write(machine, KUBECONFIG, kubeconfig(ca));
}

async function write(machine: Machine, path: string, text: string): Promise<void> {
  await machine.run(`install -D -m 0600 /dev/stdin ${path}`, { input: text });
}

function unit(command: string, after = "network"): string {
  const dependency =
    after === "network" ? "After=network.target" : `Wants=${after}.service\nAfter=${after}.service`;
  return [
    `[Unit]\n${dependency}\nStartLimitIntervalSec=0`,
    `[Service]\nExecStart=${command}\nRestart=always\nRestartSec=1`,
    "[Install]\nWantedBy=multi-user.target\n",
  ].join("\n");
}

/** Returns root's kubeconfig. @param ca the certificate to trust, in base64 */
function kubeconfig(ca: string): string {
  return JSON.stringify({
    apiVersion: "v1",
    kind: "Config",
    clusters: [{ name: "this", cluster: { server: ADDRESS, "certificate-authority-data": ca } }],
    users: [{ name: "root", user: { token: TOKEN } }],
    contexts: [{ name: "this", context: { cluster: "this", user: "root" } }],
    "current-context": "this",
  });
}
