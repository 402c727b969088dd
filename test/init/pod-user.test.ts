// The plugin's user on a node with a static pod: D-Bus closes the connections of users that the node does not know.

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { nextSteps } from "../../src/init/next-steps.js";
import { UNKNOWN_NODE, type NodeFacts } from "../../src/init/node-facts.js";
import { planNode } from "../../src/init/plan.js";
import type { Answers } from "../../src/init/values.js";

const TPM: Answers = {
  hsm: "tpm2",
  distribution: "kubeadm",
  runtime: "static-pod",
  nodes: "one",
  groupId: 116,
};
const FILE = "/etc/sysusers.d/kms-pkcs11.conf";
const MAKE = "systemd-sysusers kms-pkcs11.conf";

const fileFor = (answers: Answers) =>
  planNode(answers, UNKNOWN_NODE).parts.find((part) => part.kind === "file" && part.path === FILE);
const commandsOn = (facts: NodeFacts) =>
  nextSteps(TPM, facts, { hasPin: true, hasKek: false }).map(({ command }) => command);

it("a pod whose library speaks D-Bus gets a file that makes its user; others need none", () => {
  const content = readFileSync(
    fileURLToPath(new URL("../../deploy/systemd/sysusers.conf", import.meta.url)),
    "utf8",
  );
  expect(fileFor(TPM)).toMatchObject({ content });
  expect(fileFor({ ...TPM, hsm: "softhsm" })).toBeUndefined();
  expect(fileFor({ ...TPM, distribution: "talos" })).toBeUndefined();
});

it("init warns of the missing user and prints how to make it, until the node knows it", () => {
  expect(planNode(TPM, UNKNOWN_NODE).warnings.join()).toMatch(/D-Bus.*then init again/);
  expect(commandsOn(UNKNOWN_NODE)).toContain(MAKE);
  const known = { ...UNKNOWN_NODE, userName: () => "kms-pkcs11" };
  expect(planNode(TPM, known).warnings).toEqual([]);
  expect(commandsOn(known)).not.toContain(MAKE);
});
