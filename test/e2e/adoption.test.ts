// A cluster that has stored objects in clear or under a local key adopts the plugin, and leaves it again: the steps of
// the Kubernetes documentation in their order, with two API servers that change one after the other.

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  aescbcProvider,
  identityProvider,
  kmsProvider,
  type EncryptionRule,
  type Provider,
} from "./harness/encryption-configuration.js";
import { createKek } from "./harness/hsm-token.js";
import { ControlPlane } from "./harness/control-plane.js";
import { NAMESPACE } from "./harness/kms-cluster.js";
import type { KubeApiserver } from "./harness/kube-apiserver.js";
import { parallel } from "./harness/parallel.js";
import { Plugin } from "./harness/plugin.js";
import { record } from "./harness/report.js";
import { SoftHsmToken } from "./harness/softhsm-token.js";

const SECRETS = 100;
const value = "a value that is in clear at first";
const inClear = /^k8s\0/;
const byPlugin = /^k8s:enc:kms:v2:hsm:/;

let plane: ControlPlane;
let plugins: Plugin[];
let apiservers: KubeApiserver[];

beforeAll(async () => {
  const token = await SoftHsmToken.create();
  await createKek(token);
  plane = await ControlPlane.start();
  plugins = [
    await Plugin.start({ token, name: "plugin-1" }),
    await Plugin.start({ token, name: "plugin-2" }),
  ];
  apiservers = [await plane.startApiserver(), await plane.startApiserver()];
  await first().client.createNamespace(NAMESPACE);
  await parallel(SECRETS, 8, (index) =>
    first().client.createSecret(NAMESPACE, `s-${index}`, `${value} ${index}`),
  );
});

afterAll(async () => {
  await plane.stop();
  await Promise.all(plugins.map((plugin) => plugin.stop()));
});

function first(): KubeApiserver {
  const [apiserver] = apiservers;
  if (apiserver === undefined) throw new Error("no API server");
  return apiserver;
}

/**
 * Gives the configuration to one API server after the other and restarts it; each must be able to read all objects
 * throughout.
 */
async function rollOut(providers: (own: Provider) => readonly Provider[]): Promise<void> {
  for (const [index, apiserver] of apiservers.entries()) {
    const own = kmsProvider(plugins[index]?.places.socket ?? "");
    const rule: EncryptionRule = { resources: ["secrets"], providers: providers(own) };
    await apiserver.writeEncryption([rule]);
    await apiserver.restart();
    for (const each of apiservers) await expectAllReadable(each);
  }
}

async function expectAllReadable({ client }: KubeApiserver): Promise<void> {
  const { items } = await client.core.listNamespacedSecret({ namespace: NAMESPACE });
  const values = items.map(({ data }) => Buffer.from(data?.["value"] ?? "", "base64").toString());
  expect(values.sort()).toEqual(Array.from({ length: SECRETS }, (_, index) => `${value} ${index}`).sort());
}

/** Rewrites every Secret, and expects all stored values to match the pattern. */
async function rewrite(pattern: RegExp): Promise<void> {
  const begun = performance.now();
  expect(await first().client.rewriteSecrets()).toBe(SECRETS);
  record("adoption", `rewriting ${SECRETS} Secrets to ${pattern.source}, ms`, performance.now() - begun);
  expect(await storedOtherwise(pattern)).toEqual([]);
}

/** Returns the keys of the Secrets whose stored values do not match the pattern. */
async function storedOtherwise(pattern: RegExp): Promise<string[]> {
  const entries = await plane.etcd.store.list("/registry/secrets/");
  return entries.filter((entry) => !pattern.test(entry.value.toString("latin1"))).map((entry) => entry.key);
}

describe("a cluster without encryption", () => {
  it("a cluster without encryption stores Secrets in clear", async () => {
    expect(await storedOtherwise(inClear)).toEqual([]);
  });

  it("step 1: every API server can read what the plugin encrypts", async () => {
    await rollOut((kms) => [identityProvider, kms]);
    expect(await storedOtherwise(inClear)).toEqual([]);
  });

  it("step 2: the cluster encrypts with the plugin and still reads what is in clear", async () => {
    await rollOut((kms) => [kms, identityProvider]);
    expect(await storedOtherwise(inClear)).toEqual([]);
  });

  it("step 3: after a rewrite all Secrets are encrypted", async () => {
    await rewrite(byPlugin);
  });

  it("step 4: the cluster no longer reads anything in clear", async () => {
    await rollOut((kms) => [kms]);
  });

  it("the cluster leaves the plugin: identity first, a rewrite, no plugin", async () => {
    await rollOut((kms) => [kms, identityProvider]);
    await rollOut((kms) => [identityProvider, kms]);
    await rewrite(inClear);
    await rollOut(() => [identityProvider]);
  });
});

describe("a cluster with a local key", () => {
  it("a cluster with a local key changes over to the plugin", async () => {
    const aescbc = aescbcProvider();
    await rollOut(() => [aescbc, identityProvider]);
    await rewrite(/^k8s:enc:aescbc:v1:key1:/);
    await rollOut((kms) => [aescbc, kms]);
    await rollOut((kms) => [kms, aescbc]);
    await rewrite(byPlugin);
  });
});
