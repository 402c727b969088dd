// The static pods that init writes for two HSMs in software: SoftHSM, and a TPM behind tpm2-abrmd.
// kubelet runs them unchanged, without a cluster. The cases share the node and run in this order.

import { join } from "node:path";
import { afterAll, beforeAll, expect, inject, it } from "vitest";
import { stringify } from "yaml";
import { HSM_NEEDS, type Hsm } from "../../src/init/hsm-needs.js";
import { record } from "../e2e/harness/report.js";
import { binaries } from "../e2e/harness/run.js";
import { until } from "../e2e/harness/wait.js";
import { Cluster, kubeletConfiguration } from "./harness/cluster.js";
import { commandOf } from "./harness/guide.js";
import { KubernetesNode } from "./harness/kubernetes-node.js";
import { A_DAY_MS, lookAround } from "./harness/look-around.js";
import { startTpm } from "./harness/tpm-daemons.js";

const PIN = "1234";
const MANIFEST = "/etc/kubernetes/manifests/kms-pkcs11.yaml";
const ROUND_TRIP = "kms-pkcs11 status --round-trip --wait 60s";
/** Those of the printed steps that need no cluster. */
const STEPS = /^(export |kms-pkcs11 (keys create$|status ))/;

const folder = join(inject("runFolder"), "tokens");
const node = new KubernetesNode("tokens-node", folder, binaries());
const cluster = new Cluster(node);

beforeAll(async () => {
  await node.boot();
  const kubelet = {
    ...kubeletConfiguration(node),
    staticPodPath: "/etc/kubernetes/manifests",
    authentication: { anonymous: { enabled: false }, webhook: { enabled: false } },
    authorization: { mode: "AlwaysAllow" },
  };
  const archives = inject("archives");
  await node.run(`tar -xf ${archives}/control-plane.tar -C /opt ./pause.image`);
  for (const image of ["/opt/pause.image", `${archives}/plugin.tar`]) {
    await node.run(`ctr -n k8s.io images import ${image}`, { timeoutMs: 300_000 });
  }
  await node.run(`tar -xzf ${inject("tarball")} -C /opt`, { timeoutMs: 120_000 });
  await node.run("ln -s /opt/kms-pkcs11/bin/kms-pkcs11 /usr/local/bin/kms-pkcs11");
  await node.run("mkdir -p /opt/hsm/lib /etc/kubernetes/manifests");
  await node.run("cat >/var/lib/kubelet/config.yaml", { input: stringify(kubelet) });
}, 600_000);

afterAll(async () => {
  await lookAround(node, join(folder, "running"));
  await node.remove();
}, A_DAY_MS);

/** Copies the shared libraries of these libraries, by the command of the guide. */
async function copySharedLibraries(...libraries: readonly string[]): Promise<void> {
  const command = await commandOf("install-kubeadm.md", "ldd ");
  for (const library of libraries) {
    await node.run(command.replace("/opt/hsm/lib/libpkcs11.so", library));
  }
}

const INIT = "kms-pkcs11 init --values /opt/values.yaml --pin-stdin";

async function answer(hsm: Hsm): Promise<void> {
  const values = {
    ...{ apiVersion: "kms-pkcs11.dev/v1", kind: "InitValues", hsm },
    ...{ distribution: "kubeadm", runtime: "static-pod", nodes: "one" },
  };
  await node.run("cat >/opt/values.yaml", { input: JSON.stringify(values) });
}

/** Has init write the pod, and carries out the steps that it prints. @param make replaces `keys create` */
async function install(name: string, make = "kms-pkcs11 keys create"): Promise<void> {
  const start = Date.now();
  const printed = await node.run(INIT, { input: PIN });
  const steps = [...printed.matchAll(/^ {6}(\S.*)$/gm)].flatMap(([, step = ""]) =>
    STEPS.test(step) ? [step === "kms-pkcs11 keys create" ? make : step] : [],
  );
  expect(steps.join("\n")).toMatch(/^export [^]*keys create[^]*status --socket.*--round-trip/);
  await node.run(`set -e\n${steps.join("\n")}`, { timeoutMs: 180_000 });
  record("tokens", `${name}: from init to the first round trip, s`, (Date.now() - start) / 1000);
}

async function keyId(): Promise<string> {
  return (JSON.parse(await node.run("kms-pkcs11 status -o json")) as { keyId: string }).keyId;
}

/** Stops the container, and expects kubelet's next one to serve with the same KEK. */
async function expectSameKekAfterStop(): Promise<void> {
  const before = (await cluster.containers()).get("kms-pkcs11");
  const key = await keyId();
  await node.run(`crictl stop ${before?.id ?? ""}`);
  await until("another container", async () => {
    const now = (await cluster.containers()).get("kms-pkcs11");
    return now !== undefined && now.id !== before?.id;
  });
  await node.run(ROUND_TRIP, { timeoutMs: 90_000 });
  expect(await keyId()).toBe(key);
}

async function removePlugin(): Promise<void> {
  await node.run(`rm ${MANIFEST}`);
  await until("the pod's end", async () => (await cluster.containers()).size === 0, { timeoutMs: 120_000 });
  await node.run("rm -rf /etc/kms-pkcs11 /var/lib/kms-pkcs11 /var/log/kms-pkcs11 /etc/kubernetes/encryption");
}

it("SoftHSM: the pod of init works on the token in the node's folder", async () => {
  await copySharedLibraries("/usr/lib/softhsm/libsofthsm2.so");
  const [, makeToken = ""] = HSM_NEEDS.softhsm.prepare.split(/: (?=setpriv )/);
  await node.run(`${makeToken} --pin ${PIN} --so-pin ${PIN}`);
  await answer("softhsm");
  await install("SoftHSM");
  expect((await cluster.containers()).get("kms-pkcs11")?.restarts).toBe(0);
  expect(await node.run("grep SOFTHSM2_CONF " + MANIFEST)).toContain("/etc/softhsm/softhsm2.conf");
  await expectSameKekAfterStop();
});

it("TPM: the pod of init reaches the TPM through tpm2-abrmd", async () => {
  await removePlugin();
  await startTpm(node);
  const library = "/usr/lib/$(uname -m)-linux-gnu/pkcs11/libtpm2_pkcs11.so";
  const transport = "/usr/lib/$(uname -m)-linux-gnu/libtss2-tcti-tabrmd.so.0";
  await copySharedLibraries(library, transport);
  await node.run(`cp -L ${transport} /opt/hsm/lib/`);
  const ptool = "TPM2_PKCS11_STORE=/etc/tpm2_pkcs11 TPM2TOOLS_TCTI=tabrmd: tpm2_ptool";
  await node.run("mkdir -p /etc/tpm2_pkcs11");
  await node.run(`${ptool} init`);
  await node.run(`${ptool} addtoken --pid 1 --label kms --userpin ${PIN} --sopin so-${PIN}`);
  await node.run("chown -R 10001:10001 /etc/tpm2_pkcs11");
  await answer("tpm2");
  expect((await node.try(INIT, { input: PIN })).stderr).toContain("whose connections D-Bus therefore closes");
  await node.run("systemd-sysusers kms-pkcs11.conf");
  await install("TPM", MAKE_TPM_KEK);
  expect((await cluster.containers()).get("kms-pkcs11")?.restarts).toBe(0);
  await expectSameKekAfterStop();
});

/** A TPM's library makes no secret keys: `keys create` fails, and prints the command that does. */
const MAKE_TPM_KEK = [
  "! kms-pkcs11 keys create 2>/run/keys-create",
  'eval "TPM2TOOLS_TCTI=tabrmd: $(grep -o "tpm2_ptool addkey .*" /run/keys-create)"',
].join("\n");
