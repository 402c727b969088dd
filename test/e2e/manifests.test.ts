// The static pods of deploy/, by a real kube-apiserver: each is valid, has no unknown or duplicate field, and would be
// admitted. A static pod never passes admission, and kubelet reports its faults only in its log.

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ControlPlane } from "./harness/control-plane.js";
import type { KubeApiserver } from "./harness/kube-apiserver.js";
import { until } from "./harness/wait.js";

const DEPLOY = fileURLToPath(new URL("../../deploy/", import.meta.url));
const PODS = readdirSync(join(DEPLOY, "hsm/pods")).map((name) => join("hsm/pods", name));
const DRY_RUN = "/api/v1/namespaces/kube-system/pods?dryRun=All&fieldValidation=Strict";

let plane: ControlPlane;
let apiserver: KubeApiserver;

beforeAll(async () => {
  plane = await ControlPlane.start();
  // Nothing makes service accounts here, and the pods mount no token.
  apiserver = await plane.addApiserver({ extraArgs: ["--disable-admission-plugins=ServiceAccount"] });
  apiserver.launch();
  await apiserver.ready();
  await until("the namespace kube-system", async () => {
    return (await apiserver.get("/api/v1/namespaces/kube-system")).status === 200;
  });
});
afterAll(async () => {
  await plane.stop();
});

describe("a server-side dry run", () => {
  it.each(["static-pod/kms-pkcs11.yaml", ...PODS])("admits %s", async (name) => {
    const answer = await apiserver.client.post(DRY_RUN, readFileSync(join(DEPLOY, name), "utf8"));
    expect(answer.status, answer.body).toBe(201);
  });

  it("a server-side dry run refuses a manifest with an unknown field", async () => {
    const manifest = readFileSync(join(DEPLOY, "static-pod/kms-pkcs11.yaml"), "utf8");
    const answer = await apiserver.client.post(DRY_RUN, manifest.replace("hostNetwork:", "hostNetwrk:"));
    expect(answer).toMatchObject({ status: 400, body: expect.stringMatching(/hostNetwrk/) as string });
  });
});
