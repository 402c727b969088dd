// What the API server or a kubeconfig's files may send is limited, so that neither can exhaust the memory.

import { afterEach, beforeEach, expect, it } from "vitest";

import type { KubeApi } from "../../src/etcd/kube-api.js";
import { StandInApi, type Answer, type KubeconfigParts } from "./stand-in-api.js";

let standIn: StandInApi;
let answer: Answer;
let api: KubeApi | undefined;

beforeEach(() => {
  answer = { status: 200 };
  standIn = new StandInApi(() => answer);
});

afterEach(async () => {
  api?.close();
  api = undefined;
  await standIn.close();
});

async function get(parts: KubeconfigParts): Promise<unknown> {
  api = await standIn.connect(parts, {});
  return api.request({ method: "GET", path: "/api" });
}

it("the API client refuses a token file and a certificate authority without end", async () => {
  await expect(get({ user: { tokenFile: "/dev/zero" } })).rejects.toThrow("/dev/zero is longer than");
  const exec = {
    apiVersion: "client.authentication.k8s.io/v1",
    command: "true",
    interactiveMode: "Never",
    provideClusterInfo: true,
  };
  const cluster = { "certificate-authority": "/dev/zero", "certificate-authority-data": undefined };
  await expect(get({ user: { exec }, cluster })).rejects.toThrow("/dev/zero is longer than");
});

it("the API client refuses an answer that is too long", async () => {
  answer = { status: 200, body: "x".repeat((16 << 20) + 1) };
  await expect(get({ user: { token: "t" } })).rejects.toThrow(
    /answer of kube-apiserver at .* is longer than 16 MiB/,
  );
});
