// The plugin, the API server, the socket and the token, started in every order: all find each other without a restart.

import { mkdir, symlink } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { kmsProvider } from "./harness/encryption-configuration.js";
import { KmsCluster, type Node } from "./harness/kms-cluster.js";
import type { KubeApiserver } from "./harness/kube-apiserver.js";
import { record } from "./harness/report.js";
import { newFolder } from "./harness/run.js";
import { UnreliableToken } from "./harness/unreliable-token.js";
import { until } from "./harness/wait.js";

let token: UnreliableToken;
let cluster: KmsCluster;
let node: Node;

beforeEach(async () => {
  token = await UnreliableToken.create();
  cluster = await KmsCluster.start(token);
  node = await cluster.addNode();
});

afterEach(async () => {
  await cluster.stop();
});

/** Checks that the API server serves, and that only its KMS provider keeps it from being ready. */
async function waitsForKms(apiserver: KubeApiserver): Promise<void> {
  await until("the API server waits for its KMS provider only", async () => {
    const { status, body } = await apiserver.get("/readyz?verbose");
    return status === 500 && body.includes("[-]kms-providers");
  });
  expect((await apiserver.get("/readyz")).status).toBe(500);
}

async function writesAndReads(apiserver: KubeApiserver): Promise<void> {
  await apiserver.client.createSecret("default", "order", "value");
  expect((await apiserver.client.readSecret("default", "order")).toString()).toBe("value");
}

async function recordReady(what: string, since: number): Promise<void> {
  await node.apiserver.ready();
  record("start order", `${what}, ms to the API server ready`, Date.now() - since);
  await until("the namespace default", async () => {
    return (await node.apiserver.get("/api/v1/namespaces/default")).status === 200;
  });
  await writesAndReads(node.apiserver);
}

describe("a control plane starts", () => {
  it("the control plane starts with the plugin first", async () => {
    record("start order", "plugin, start to ready, ms", await node.plugin.start());
    const begun = Date.now();
    node.apiserver.launch();
    await recordReady("plugin first, then the API server", begun);
  });

  it("the control plane starts with the API server first, and no socket", async () => {
    node.apiserver.launch();
    await waitsForKms(node.apiserver);
    const begun = Date.now();
    await node.plugin.start();
    await recordReady("plugin second", begun);
  });

  it("an API server that runs for long uses a socket that appears late", async () => {
    const folder = await newFolder("late");
    const late = join(folder, "kms");
    await node.apiserver.writeEncryption([
      { resources: ["secrets"], providers: [kmsProvider(join(late, "kms.sock"))] },
    ]);
    await node.plugin.start();
    node.apiserver.launch();
    await waitsForKms(node.apiserver);
    await mkdir(late);
    await symlink(node.plugin.places.socket, join(late, "kms.sock"));
    await recordReady("socket late", Date.now());
  });

  it("before its token appears the plugin serves, and reports why it is not healthy", async () => {
    token.goAway();
    node.plugin.launch();
    node.apiserver.launch();
    await waitsForKms(node.apiserver);
    await until("the plugin says that it finds no token", async () => {
      const { status, body } = await node.plugin.get("/readyz");
      return status === 503 && /token|CKR_/.test(body);
    });
    expect(node.plugin.running).toBe(true);
    token.comeBack();
    await recordReady("token late", Date.now());
  });

  it("the control plane starts with the socket of a plugin that was killed", async () => {
    await node.plugin.start();
    await node.plugin.kill();
    node.apiserver.launch();
    await waitsForKms(node.apiserver);
    const begun = Date.now();
    await node.plugin.start();
    await recordReady("stale socket, plugin second", begun);
  });
});
