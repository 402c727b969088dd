// Operators begin with the files of deploy/: each file is parsed by the code that reads it in use, and they agree with
// each other on names and paths.

import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { describe, expect, it } from "vitest";
import { parse } from "yaml";

import { readEncryptionConfiguration } from "../../src/config/encryption-configuration.js";
import { loadSettings } from "../../src/config/load.js";

const DEPLOY = fileURLToPath(new URL("../../deploy/", import.meta.url));
const file = (name: string): string => join(DEPLOY, name);
const settings = (name: string) => loadSettings({ configPath: file(name), flags: {}, env: {}, serves: true });

interface Folders {
  readonly volumes?: readonly { readonly hostPath: { readonly path: string } }[];
}

const CONFIGURATIONS = [
  "config.yaml",
  ...readdirSync(file("hsm"))
    .filter((name) => name.endsWith(".yaml"))
    .map((name) => join("hsm", name)),
];

describe("deploy/", () => {
  it.each(CONFIGURATIONS)("%s is a configuration without a problem or warning", (name) => {
    expect(settings(name).warnings).toEqual([]);
  });

  it("the EncryptionConfigurations for the plugin's socket first read, then write", () => {
    const socket = settings("config.yaml").socket?.path;
    const rules = (name: string) => readEncryptionConfiguration(file(name)).rules;
    const [read] = rules("encryption-configuration-read.yaml");
    const [write] = rules("encryption-configuration.yaml");
    const kms = { kind: "kms", name: "kms-pkcs11", apiVersion: "v2", endpoint: `unix://${socket ?? ""}` };
    expect(read?.providers).toMatchObject([{ kind: "identity" }, kms]);
    expect(write?.providers).toMatchObject([kms, { kind: "identity" }]);
    expect(read?.resources).toEqual(write?.resources);
  });

  it("the manifests mount the folders that the plugin is configured with", () => {
    const { socket, stateDir, audit } = settings("config.yaml");
    const pod = parse(readFileSync(file("static-pod/kms-pkcs11.yaml"), "utf8")) as { spec: Folders };
    const mounted = pod.spec.volumes?.map(({ hostPath }) => hostPath.path);
    expect(mounted).toContain(stateDir);
    for (const used of [socket?.path, audit?.file]) {
      expect(
        mounted?.some((path) => used?.startsWith(`${path}/`)),
        used,
      ).toBe(true);
    }
    // And creates them, for the pod and for the unit.
    const made = readFileSync(file("static-pod/tmpfiles.conf"), "utf8");
    const unit = readFileSync(file("systemd/kms-pkcs11.service"), "utf8");
    for (const path of [stateDir, dirname(socket?.path ?? ""), dirname(audit?.file ?? "")]) {
      expect(made).toMatch(new RegExp(`^d +${path ?? ""} +07[05]0 +10001 +10001 `, "m"));
      const [, , under, name] = (path ?? "").split("/");
      const setting = path?.startsWith("/run/")
        ? "RuntimeDirectory"
        : under === "lib"
          ? "StateDirectory"
          : "LogsDirectory";
      expect(unit).toContain(`${setting}=${name ?? under ?? ""}`);
    }
    // Owned by root: systemd-tmpfiles changes no file of another owner in a folder that root does not own.
    expect(made).toMatch(/^d +\/etc\/kms-pkcs11\/credentials +0750 +root +10001 /m);
    const cluster = parse(readFileSync(file("kubeadm/cluster-configuration.yaml"), "utf8")) as {
      apiServer: { extraVolumes: readonly { hostPath: string }[] };
    };
    const shared = cluster.apiServer.extraVolumes.map(({ hostPath }) => hostPath);
    expect(shared.some((path) => socket?.path.startsWith(`${path}/`))).toBe(true);
  });
});
