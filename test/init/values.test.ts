// The values file of `kms-pkcs11 init`: every problem is reported with its position, and no message repeats a value.

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { describe, expect, it } from "vitest";

import { parseValues, valuesText, type Answers } from "../../src/init/values.js";

const EXAMPLE = fileURLToPath(new URL("../../deploy/init.yaml", import.meta.url));
const HEAD = "apiVersion: kms-pkcs11.dev/v1\nkind: InitValues\n";
const GOOD = "hsm: luna\ndistribution: kubeadm\nruntime: systemd\nnodes: several\n";

const problems = (text: string): string[] => {
  try {
    parseValues(Buffer.from(text), "v.yaml");
    return [];
  } catch (error) {
    return (error as Error).message.split("\n");
  }
};

describe("a values file", () => {
  it("the example in deploy/ keeps its meaning", () => {
    expect(parseValues(readFileSync(EXAMPLE), EXAMPLE)).toEqual({
      apiVersion: "kms-pkcs11.dev/v1",
      kind: "InitValues",
      hsm: "softhsm",
      distribution: "kubeadm",
      runtime: "static-pod",
      nodes: "several",
      token: "kms",
      object: "kms-kek",
      library: "/usr/lib/softhsm/libsofthsm2.so",
      pin: "file",
      resources: ["secrets", "configmaps"],
      image: "registry.example/kubernetes-kms-pkcs11:0.1.0",
      groupId: 116,
    });
  });

  it.each<[string, string, string[]]>([
    [
      "an unknown value",
      `${HEAD}${GOOD}tokn: kms\n`,
      ["v.yaml:7:1: this is not a value of init; did you mean token?"],
    ],
    [
      "missing values, all at once",
      `${HEAD}hsm: luna\n`,
      [
        "v.yaml:1:1: distribution is missing; give kubeadm, k3s, rke2, talos",
        "v.yaml:1:1: runtime is missing; give static-pod, systemd",
        "v.yaml:1:1: nodes is missing; give one, several",
      ],
    ],
    [
      "a PIN in place of its source, without repeating it",
      `${HEAD}${GOOD}pin: "93471"\n`,
      ["v.yaml:7:1: pin is not valid; give file, encrypted-credential"],
    ],
    [
      "an element of a list",
      `${HEAD}${GOOD}resources: [secrets, "Config Maps"]\n`,
      ["v.yaml:7:22: resources is not valid; give a list such as [secrets, configmaps]"],
    ],
    [
      "a list in place of a mapping",
      "- a\n",
      ["v.yaml:1:1: is not a mapping; begin it with apiVersion and kind"],
    ],
    [
      "a path that would need quotes in a unit",
      `${HEAD}${GOOD}library: "/opt/a b.so"\n`,
      ["v.yaml:7:1: library is not valid; give an absolute path"],
    ],
  ])("a values file with %s is reported", (_name, text, expected) => {
    expect(problems(text)).toEqual(expected);
  });

  it.each<[Partial<Answers>, RegExp]>([
    [
      { distribution: "k3s", runtime: "static-pod" },
      /:5:1: k3s starts static pods only after its API server/,
    ],
    [{ distribution: "talos", runtime: "systemd" }, /:5:1: Talos accepts no other units; give static-pod/],
    [{ runtime: "static-pod", pin: "encrypted-credential" }, /:7:1: only systemd decrypts a credential/],
    [{ hsm: "tpm2", nodes: "several" }, /:6:1: the KEK of a TPM cannot be cloned/],
  ])("a values file refuses answers that contradict each other: %j", (answers, problem) => {
    const all = { hsm: "luna", distribution: "kubeadm", runtime: "systemd", nodes: "one", ...answers };
    const text = Object.entries(all).map(([name, value]) => `${name}: ${String(value)}\n`);
    expect(problems(HEAD + text.join(""))).toEqual([expect.stringMatching(problem)]);
  });

  it("answers survive being written and read", () => {
    const { apiVersion, kind, ...answers } = parseValues(readFileSync(EXAMPLE), EXAMPLE);
    expect(parseValues(Buffer.from(valuesText(answers)), "v.yaml")).toEqual({ apiVersion, kind, ...answers });
  });
});
