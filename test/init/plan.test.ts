// What `kms-pkcs11 init` puts on a node: made from the files of deploy/, complete for each HSM, and valid for the
// programs that read it. `vitest -u` rewrites the files under deploy/hsm/.

import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { describe, expect, it } from "vitest";
import { parse, parseAllDocuments } from "yaml";

import { parseEncryptionConfiguration } from "../../src/config/encryption-configuration.js";
import { loadSettings } from "../../src/config/load.js";
import { HSM_NEEDS, HSMS } from "../../src/init/hsm-needs.js";
import { clusterDigest, nextSteps } from "../../src/init/next-steps.js";
import { UNKNOWN_NODE, type NodeFacts } from "../../src/init/node-facts.js";
import { planNode, type PlannedFile } from "../../src/init/plan.js";
import { documentStream } from "../../src/init/stream.js";
import { DISTRIBUTIONS, type Answers } from "../../src/init/values.js";
import { makeFolder } from "../support/token.js";

const DEPLOY = fileURLToPath(new URL("../../deploy/", import.meta.url));
const deployed = (name: string): string => readFileSync(join(DEPLOY, name), "utf8");
const POD: Answers = {
  hsm: "softhsm",
  distribution: "kubeadm",
  runtime: "static-pod",
  nodes: "one",
  groupId: 116,
};
const UNIT: Answers = { hsm: "softhsm", distribution: "kubeadm", runtime: "systemd", nodes: "one" };

interface PodManifest {
  readonly spec: {
    readonly securityContext: { readonly supplementalGroups?: readonly number[] };
    readonly containers: readonly [
      {
        readonly env: readonly { name: string; value: string }[];
        readonly volumeMounts: readonly { name: string; mountPath: string; readOnly?: boolean }[];
      },
    ];
    readonly initContainers?: readonly {
      readonly command: readonly string[];
      readonly volumeMounts: unknown;
    }[];
    readonly volumes: readonly {
      readonly name: string;
      readonly hostPath: { readonly path: string; readonly type: string };
    }[];
  };
}

function filesOf(answers: Answers, facts: NodeFacts = UNKNOWN_NODE): ReadonlyMap<string, string> {
  const files = planNode(answers, facts).parts.filter((part): part is PlannedFile => part.kind === "file");
  return new Map(files.map(({ path, content }) => [path, content]));
}
const fileOf = (answers: Answers, path: string): string => filesOf(answers).get(path) ?? `no file ${path}`;
const manifest = (answers: Answers): string => fileOf(answers, "/etc/kubernetes/manifests/kms-pkcs11.yaml");
const dropIn = (answers: Answers): string =>
  fileOf(answers, "/etc/systemd/system/kms-pkcs11.service.d/hsm.conf");

const LISTED = HSMS.filter((hsm) => hsm !== "other");

describe.each(LISTED)("for %s", (hsm) => {
  it("the files of deploy/hsm/ are those that init writes", async () => {
    expect(fileOf({ ...UNIT, hsm }, "/etc/kms-pkcs11/config.yaml")).toBe(deployed(`hsm/${hsm}.yaml`));
    await expect(manifest({ ...POD, hsm })).toMatchFileSnapshot(join(DEPLOY, `hsm/pods/${hsm}.yaml`));
    await expect(dropIn({ ...UNIT, hsm })).toMatchFileSnapshot(join(DEPLOY, `hsm/units/${hsm}.conf`));
  });

  it("the pod mounts the library and all that it needs, and each volume once", () => {
    const { spec } = parse(manifest({ ...POD, hsm })) as PodManifest;
    const { volumeMounts } = spec.containers[0];
    expect(volumeMounts.map(({ name }) => name)).toEqual(spec.volumes.map(({ name }) => name));
    expect(new Set(spec.volumes.map(({ name }) => name)).size).toBe(spec.volumes.length);
    const { keys } = parse(deployed(`hsm/${hsm}.yaml`)) as { keys: { uri: string } };
    const library = /module-path=([^&]*)/.exec(keys.uri)?.[1] ?? "";
    const { files, mounts } = HSM_NEEDS[hsm];
    for (const needed of [library, ...[...mounts, ...files].map(({ path }) => path)]) {
      const isMounted = volumeMounts.some(({ mountPath }) => `${needed}/`.startsWith(`${mountPath}/`));
      expect(isMounted, needed).toBe(true);
    }
  });
});

describe("the plan", () => {
  it("the pod mounts the folder of the configuration, since an editor replaces the file", () => {
    const { spec } = parse(manifest(POD)) as PodManifest;
    const paths = spec.volumes.map(({ hostPath }) => hostPath);
    expect(paths).toContainEqual({ path: "/etc/kms-pkcs11", type: "Directory" });
    expect(paths.filter(({ path }) => path.startsWith("/etc/kms-pkcs11/") && path.includes("."))).toEqual([]);
  });

  it("for another HSM, the files of deploy/ are unchanged, and the unit needs no drop-in", () => {
    const files = filesOf({ ...UNIT, hsm: "other" });
    expect(files.get("/etc/kms-pkcs11/config.yaml")).toBe(deployed("config.yaml"));
    expect(manifest({ ...POD, hsm: "other" })).toBe(deployed("static-pod/kms-pkcs11.yaml"));
    expect([...files.keys()].filter((path) => path.includes(".service.d/"))).toEqual([]);
  });

  it("the configuration is valid and has the operator's names", () => {
    const folder = makeFolder("init-plan");
    const path = join(folder, "config.yaml");
    const answers: Answers = { ...UNIT, token: "my token; 1", object: "other", library: "/opt/v/p11.so" };
    writeFileSync(path, fileOf(answers, "/etc/kms-pkcs11/config.yaml"));
    const settings = loadSettings({ configPath: path, flags: {}, env: {}, serves: true });
    expect(settings).toMatchObject({ objectName: "other", warnings: [] });
    expect(settings.tokens[0]).toMatchObject({ uri: { token: "my token; 1" }, modulePath: "/opt/v/p11.so" });
    rmSync(folder, { recursive: true });
  });

  it("both EncryptionConfigurations name the resources, and the one in use reads", () => {
    const files = filesOf({ ...POD, resources: ["secrets", "*.apps"] });
    const rules = (name: string) => {
      const text = files.get(`/etc/kubernetes/encryption/encryption-configuration${name}.yaml`) ?? "";
      return parseEncryptionConfiguration(Buffer.from(text), name).rules;
    };
    for (const name of ["-read", "-write", ""]) {
      expect(rules(name)[0]?.resources).toEqual(["secrets", "*.apps"]);
      expect(rules(name)[0]?.providers[0]?.kind).toBe(name === "-write" ? "kms" : "identity");
    }
  });

  it("kubelet sees the pod last, when all that it mounts exists", () => {
    const { parts } = planNode(POD, UNKNOWN_NODE);
    expect(parts.at(-1)?.path).toBe("/etc/kubernetes/manifests/kms-pkcs11.yaml");
    expect(parts.findIndex(({ kind }) => kind !== "folder" && kind !== "link")).toBeGreaterThan(0);
  });

  it("RKE2 imports the image from its own folder, and kubeadm's containerd through ctr", () => {
    const importing = (distribution: Answers["distribution"]) =>
      nextSteps({ ...POD, distribution }, UNKNOWN_NODE, { hasPin: true, hasKek: true })[0]?.command;
    expect(importing("kubeadm")).toMatch(/^ctr -n k8s.io images import kubernetes-kms-pkcs11-[\d.]+\.tar$/);
    expect(importing("rke2")).toMatch(/^install .*\.tar \/var\/lib\/rancher\/rke2\/agent\/images\//);
  });

  it("the EncryptionConfiguration that reads names the file of the node that writes", () => {
    const text = fileOf(POD, "/etc/kubernetes/encryption/encryption-configuration-read.yaml");
    expect(text).not.toMatch(/encryption-configuration\.yaml/);
  });

  it("a unit that a package installed is not written again", () => {
    const packaged = { ...UNKNOWN_NODE, exists: (path: string) => path.startsWith("/usr/lib/systemd/") };
    expect([...filesOf(UNIT).keys()]).toContain("/etc/systemd/system/kms-pkcs11.service");
    const written = [...filesOf(UNIT, packaged).keys()];
    expect(written).not.toContain("/etc/systemd/system/kms-pkcs11.service");
    expect(written).toContain("/etc/systemd/system/kms-pkcs11.service.d/hsm.conf");
  });

  it("the folders of the unit belong to the user that the node gave it", () => {
    const facts: NodeFacts = { ...UNKNOWN_NODE, userId: () => 991, groupId: () => 988 };
    const state = planNode(UNIT, facts).parts.find(({ path }) => path === "/var/lib/kms-pkcs11");
    expect(state).toMatchObject({ uid: 991, gid: 988, mode: 0o700 });
  });

  it("warns if the plugin's user id belongs to somebody else, and refuses an unknown group", () => {
    const { warnings } = planNode(UNIT, { ...UNKNOWN_NODE, userName: () => "alice" });
    expect(warnings).toContainEqual(expect.stringMatching(/10001.* belongs to alice/));
    expect(() => planNode({ ...UNIT, runtime: "static-pod" }, UNKNOWN_NODE)).toThrow(
      /group softhsm is not known; install the package softhsm2 .* or give groupId/,
    );
  });

  it("nodes with different answers have different digests; paths of a node do not count", () => {
    const digest = clusterDigest(POD);
    expect(clusterDigest({ ...POD, library: "/opt/other.so", runtime: "systemd" })).toBe(digest);
    expect(clusterDigest({ ...POD, object: "other" })).not.toBe(digest);
    expect(clusterDigest({ ...POD, resources: ["secrets", "configmaps"] })).not.toBe(digest);
  });

  it("the steps for a new kubeadm cluster start it before they call the plugin in its pod", () => {
    const folder = (...paths: string[]) => ({
      ...UNKNOWN_NODE,
      exists: (path: string) => paths.includes(path),
    });
    const commands = (facts: NodeFacts, answers = POD) =>
      nextSteps(answers, facts, { hasPin: true, hasKek: false }).flatMap(
        ({ command = "" }) => /^(kubeadm|kms-pkcs11 [a-z]+ [a-z]*|install)/.exec(command)?.slice(0, 1) ?? [],
      );
    expect(commands(folder("/etc/kubernetes"))).toEqual([
      "kms-pkcs11 keys create",
      "install",
      "kubeadm",
      "kms-pkcs11 status ",
      "kms-pkcs11 etcd usage",
    ]);
    const existing = folder("/etc/kubernetes", "/etc/kubernetes/admin.conf");
    expect(commands(existing)).not.toContain("kubeadm");
    expect(commands(UNKNOWN_NODE)).not.toContain("kubeadm");
    expect(commands(folder("/etc/kubernetes"), { ...POD, nodes: "several" })).not.toContain("kubeadm");
  });

  it.each(DISTRIBUTIONS)("the steps for %s end with the API server's", (distribution) => {
    const steps = nextSteps({ ...UNIT, distribution }, UNKNOWN_NODE, { hasPin: true, hasKek: false });
    expect(steps.map(({ command }) => command)).toContain("kms-pkcs11 keys create");
    expect(steps.at(-1)?.command).toMatch(/etcd migrate/);
    expect(
      nextSteps({ ...UNIT, distribution }, UNKNOWN_NODE, { hasPin: true, hasKek: true }).length,
    ).toBeLessThan(steps.length);
  });
});

interface TalosMachine {
  readonly machine: {
    readonly files: readonly { readonly path: string; readonly permissions: number }[];
    readonly pods: readonly [PodManifest];
  };
}

function talosMachine(part: Pick<Answers, "hsm" | "groupId">): TalosMachine {
  const answers: Answers = { ...part, distribution: "talos", runtime: "static-pod", nodes: "one" };
  const text = documentStream(answers, planNode(answers, UNKNOWN_NODE).parts);
  return parseAllDocuments(text)[0]?.toJS() as TalosMachine;
}
const talosPod = (part: Pick<Answers, "hsm" | "groupId">): PodManifest => talosMachine(part).machine.pods[0];

describe("the stream of --print", () => {
  it("--print has every part of the plan and no PIN", () => {
    const { parts } = planNode(POD, UNKNOWN_NODE);
    const documents = parseAllDocuments(documentStream(POD, parts)).map(
      (one) => one.toJS() as Record<string, unknown>,
    );
    expect(documents.map(({ path }) => path)).toEqual(parts.map(({ path }) => path));
    const pod = documents.find(({ path }) => path === "/etc/kubernetes/manifests/kms-pkcs11.yaml");
    expect(pod?.["content"]).toBe(manifest(POD));
    expect(documents.find(({ kind }) => kind === "NodeSecret")).not.toHaveProperty("content");
  });

  it("--print for Talos is a patch of the machine configuration", async () => {
    const answers: Answers = { ...POD, distribution: "talos" };
    const text = documentStream(answers, planNode(answers, UNKNOWN_NODE).parts);
    await expect(text).toMatchFileSnapshot(join(DEPLOY, "talos/patch.yaml"));
    const [patch] = parseAllDocuments(text).map((one) => one.toJS() as { machine: { pods: PodManifest[] } });
    const paths = patch?.machine.pods[0]?.spec.volumes.map(({ hostPath }) => hostPath.path) ?? [];
    expect(
      paths.every((path) => /^\/(var|run)\//.test(path)),
      paths.join(),
    ).toBe(true);
  });

  it.each([
    ["softhsm", "/var/lib/softhsm/tokens", "/var/lib/softhsm/tokens"],
    ["cloudhsm", "/var/opt/cloudhsm/run", "/opt/cloudhsm/run"],
  ] as const)("Talos keeps on its disk what the library of %s writes", (hsm, hostPath, mountPath) => {
    const { spec } = talosPod({ hsm });
    const volume = spec.volumes.find((one) => one.hostPath.path === hostPath);
    expect(volume?.hostPath.type).toBe("DirectoryOrCreate");
    const mount = spec.containers[0].volumeMounts.find(({ name }) => name === volume?.name);
    expect(mount).toMatchObject({ mountPath });
    expect(mount?.readOnly).not.toBe(true);
    const [init] = spec.initContainers ?? [];
    expect(init?.volumeMounts).toContainEqual({ name: volume?.name, mountPath });
    expect(init?.command.at(-1)).toContain(`chown 10001:10001 ${mountPath}`);
  });

  it("Talos gets the settings of the library as a file, and needs no group's number", () => {
    const { machine } = talosMachine({ hsm: "yubihsm2" });
    const settings = machine.files.find(({ path }) => path.endsWith("/yubihsm_pkcs11.conf"));
    expect(settings).toMatchObject({ path: "/var/etc/kms-pkcs11/yubihsm_pkcs11.conf", permissions: 0o644 });
    const { spec } = talosPod({ hsm: "yubihsm2" });
    expect(spec.volumes.map(({ hostPath }) => hostPath.path)).toContain("/var/etc/kms-pkcs11");
    expect(talosPod({ hsm: "luna" }).spec.securityContext.supplementalGroups).toEqual([65534]);
    expect(talosPod({ hsm: "luna", groupId: 900 }).spec.securityContext.supplementalGroups).toEqual([
      65534, 900,
    ]);
  });
});

const ANALYZE = "systemd-analyze";
const hasSystemd = spawnSync(ANALYZE, ["--version"]).status === 0;

it.runIf(hasSystemd)("systemd-analyze accepts the unit with every drop-in", () => {
  const folder = makeFolder("init-unit");
  // The program need not be installed here.
  const text = deployed("systemd/kms-pkcs11.service").replace(/^ExecStart=\S+/m, "ExecStart=/bin/true");
  const units = LISTED.map((hsm) => {
    const unit = join(folder, `kms-pkcs11-${hsm}.service`);
    mkdirSync(`${unit}.d`);
    writeFileSync(unit, text);
    const part = dropIn({ ...UNIT, hsm, distribution: "k3s", pin: "encrypted-credential" });
    writeFileSync(join(`${unit}.d`, "hsm.conf"), part);
    return unit;
  });
  try {
    // An unknown setting is only reported. The unit says why an older systemd reports its Type.
    const { status, stderr } = spawnSync(ANALYZE, ["verify", ...units], { encoding: "utf8" });
    const lines = stderr.split("\n").filter((line) => line !== "" && !line.endsWith(": notify-reload"));
    expect(lines).toEqual([]);
    expect(status).toBe(0);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
