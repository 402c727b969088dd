// What `etcd recover --delete` does if a user may not delete, or the operator does not confirm, on a real API server: the reason
// names what is missing, and nothing is deleted.

import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { onTerminal } from "../support/terminal.js";
import { storageKey } from "./harness/etcd-store.js";
import { KmsCluster, NAMESPACE, type Node } from "./harness/kms-cluster.js";
import { kmsPkcs11 } from "./harness/kms-pkcs11.js";
import { newFolder } from "./harness/run.js";
import { administratorEnvironment, makeUnreadable } from "./harness/unreadable-secrets.js";

const VERBS = ["get", "list", "delete", "unsafe-delete-ignore-read-errors"];
const QUESTION = "Type the number of these objects";
const NAMES = ["one", "two"];
const KEYS = NAMES.map((name) => storageKey("secrets", NAMESPACE, name));

let cluster: KmsCluster;
let node: Node;
let folder: string;
let audit: string;
let backup: string;
let env: Record<string, string>;

beforeAll(async () => {
  cluster = await KmsCluster.start();
  folder = await newFolder("refusals");
  audit = join(folder, "audit.log");
  backup = join(folder, "backup.db");
  node = await cluster.startNode({ config: { audit: { file: audit } } });
  env = await administratorEnvironment(cluster, node);
});

beforeEach(async () => {
  await makeUnreadable(cluster, node, NAMES, backup);
});

afterAll(async () => {
  await cluster.stop();
});

/** Permits a user the verbs on Secrets, and what every run needs. Returns a kubeconfig that acts as the user. */
async function kubeconfigOf(user: string, verbs: readonly string[]): Promise<string> {
  const rules = [
    { apiGroups: [""], resources: ["secrets"], verbs },
    { apiGroups: [""], resources: ["namespaces"], verbs: ["get", "list"] },
  ];
  const named = { apiVersion: "rbac.authorization.k8s.io/v1", metadata: { name: user } };
  const group = { apiGroup: "rbac.authorization.k8s.io" };
  const roleRef = { ...group, kind: "ClusterRole", name: user };
  const subjects = [{ ...group, kind: "User", name: user }];
  for (const [path, manifest] of [
    ["clusterroles", { ...named, kind: "ClusterRole", rules }],
    ["clusterrolebindings", { ...named, kind: "ClusterRoleBinding", roleRef, subjects }],
  ] as const) {
    const answer = await node.apiserver.client.post(
      `/apis/rbac.authorization.k8s.io/v1/${path}`,
      JSON.stringify(manifest),
    );
    expect(answer.status).toBe(201);
  }
  const config = JSON.parse(await readFile(env["KUBECONFIG"] ?? "", "utf8")) as { users: { user: object }[] };
  config.users = config.users.map((one) => ({ ...one, user: { ...one.user, as: user } }));
  const file = join(folder, `${user}.kubeconfig`);
  await writeFile(file, JSON.stringify(config), { mode: 0o600 });
  return file;
}

const command = (): string[] => [
  ...["etcd", "recover", "--config", join(node.plugin.places.folder, "config.yaml")],
  ...["--delete", "--backup", backup],
];

const stored = async (): Promise<boolean[]> =>
  Promise.all(KEYS.map(async (key) => (await cluster.plane.etcd.store.get(key)) !== undefined));

async function recorded(): Promise<number> {
  const lines = (await readFile(audit, "utf8")).split("\n");
  return lines.filter((line) => line.includes('"operation":"etcd recover"')).length;
}

it.each(VERBS)("a user who may not %s Secrets deletes none and learns what to grant", async (lacking) => {
  const kubeconfig = await kubeconfigOf(
    `without-${lacking}`,
    VERBS.filter((verb) => verb !== lacking),
  );
  const before = await recorded();
  const { code, stdout, stderr } = await kmsPkcs11(
    [...command(), "--yes", "--kubeconfig", kubeconfig],
    env,
    180_000,
  );
  expect([code, stdout]).toEqual([2, ""]);
  expect(stderr).toContain(`user may not ${lacking} secrets; grant it the verbs ${VERBS.join(", ")}`);
  expect([await stored(), await recorded()]).toEqual([[true, true], before]);
});

it("a wrong number typed at the question deletes nothing", async () => {
  const before = await recorded();
  const answers = [
    ["1\r", 1, "another number was typed"],
    ["yes\r", 1, "another number was typed"],
    // Ctrl-C and Ctrl-D.
    ["\x03", 130, "no number was typed"],
    ["\x04", 130, "no number was typed"],
  ] as const;
  for (const [answer, exitCode, refusal] of answers) {
    const { code, stdout } = await onTerminal({ prompt: QUESTION, answer }, command(), env);
    expect([code, stdout]).toEqual([exitCode, expect.stringContaining(`${refusal}; nothing was deleted`)]);
  }
  expect([await stored(), await recorded()]).toEqual([[true, true], before]);
});

it("a user with the four verbs and the right number deletes what is listed", async () => {
  const args = [...command(), "--kubeconfig", await kubeconfigOf("with-all", VERBS)];
  const { code, stdout } = await onTerminal({ prompt: QUESTION, answer: "2\r" }, args, env);
  expect([code, stdout]).toEqual([0, expect.stringContaining("LIST of secrets works")]);
  expect(await stored()).toEqual([false, false]);
});
