// What root's commands take from the manifest of the plugin's static pod. scripts/e2e-node runs them on a node.

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { parsePod } from "../../src/admin/plugin-pod.js";

const pod = (name: string): string =>
  readFileSync(fileURLToPath(new URL(`../../deploy/${name}`, import.meta.url)), "utf8");

it("user, groups and variables of the pod are read, but not where the image has its libraries", () => {
  expect(parsePod(pod("hsm/pods/softhsm.yaml"))).toEqual({
    user: "10001",
    groups: ["116"],
    environment: { SOFTHSM2_CONF: "/etc/softhsm/softhsm2.conf" },
  });
  expect(parsePod(pod("static-pod/kms-pkcs11.yaml"))).toEqual({ user: "10001", groups: [], environment: {} });
});

it("nothing is read of a manifest that is no pod", () => {
  expect(parsePod("kind: Pod")).toBeUndefined();
  expect(parsePod("")).toBeUndefined();
});
