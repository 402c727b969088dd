// Rotations under three API servers that write and read throughout: nodes on one token, with a plugin that is restarted
// around the instant and the former KEK destroyed at the end; and nodes on three clones, one of which gets the key
// late.

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { KmsClient, type KmsCiphertext } from "../../src/kms-client/kms-client.js";
import { changeOver } from "./harness/change-over.js";
import { compareNodes, nodeUrls, rotateKek, storedKeyIds, type Rotated } from "./harness/keyring.js";
import { KmsCluster, NAMESPACE, type Node } from "./harness/kms-cluster.js";
import { kmsPkcs11, kmsPkcs11Ok } from "./harness/kms-pkcs11.js";
import { Load } from "./harness/load.js";
import { record } from "./harness/report.js";
import { SoftHsmToken } from "./harness/softhsm-token.js";
import { until } from "./harness/wait.js";

const EARLY = ["early-0", "early-1", "early-2"];
const config = { keys: { refreshInterval: "1s" } };
const pace = { pauseMs: 250 };

let cluster: KmsCluster;
let nodes: Node[];
let load: Load;
let former: string;
let rotated: Rotated;

const clientOf = ({ apiserver }: Node): Node["apiserver"]["client"] => apiserver.client;
const write = (node: Node, name: string): Promise<void> =>
  clientOf(node).createSecret(NAMESPACE, name, `value of ${name}`);
async function expectReadable(node: Node, names: readonly string[]): Promise<void> {
  for (const name of names) {
    expect((await clientOf(node).readSecret(NAMESPACE, name)).toString()).toBe(`value of ${name}`);
  }
}
const keyIdOf = async (name: string): Promise<string | undefined> =>
  (await storedKeyIds(cluster.plane.etcd, NAMESPACE)).get(name);
const readyz = async ({ apiserver, plugin }: Node): Promise<number[]> => [
  (await apiserver.get("/readyz")).status,
  (await plugin.get("/readyz")).status,
];

/** Starts three nodes and creates a Secret through each of them. Only the first two are under load. */
async function startNodes(tokens: readonly [SoftHsmToken, SoftHsmToken, SoftHsmToken]): Promise<void> {
  nodes = [];
  for (const token of tokens) nodes.push(await cluster.startNode({ config, token }));
  for (const [index, node] of nodes.entries()) await write(node, EARLY[index] ?? "");
  former = (await keyIdOf("early-0")) ?? "";
}

const seconds = (from: number, to: number): string => ((to - from) / 1000).toFixed(1);

describe("three nodes on one token", () => {
  const SECTION = "rotation, one token";
  /** Encrypted by each plugin under the former KEK, and therefore in its cache. */
  let seals: KmsCiphertext[];
  let clients: KmsClient[];

  beforeAll(async () => {
    const token = await SoftHsmToken.create();
    cluster = await KmsCluster.start(token);
    await startNodes([token, token, token]);
    clients = nodes.map(({ plugin }) => new KmsClient(plugin.places.socket));
    seals = await Promise.all(clients.map((client) => client.encrypt(Buffer.alloc(32, 7), "before")));
    load = Load.start(nodes.map(clientOf), NAMESPACE, pace);
  });

  afterAll(async () => {
    await load.stop();
    for (const client of clients) client.close();
    await cluster.stop();
  });

  it("three nodes on one token switch one after the other, without a failed request", async () => {
    const { plugins, token } = cluster;
    const options = ["--activate-in", "15s", "--wait", "--nodes", nodeUrls(plugins)];
    rotated = await rotateKek(token, ...options);
    const { keyId, activation } = rotated;
    expect(Date.now()).toBeLessThan(activation);
    await until("the instant is near", () => Date.now() > activation - 500, { intervalMs: 10 });
    await plugins[1]?.kill();
    await until("the instant has passed", () => Date.now() > activation, { intervalMs: 10 });
    await plugins[1]?.start();
    const changed = await Promise.all(nodes.map(({ apiserver }) => changeOver(apiserver, keyId)));
    for (const [index, at] of changed.entries()) {
      expect(at).toBeGreaterThanOrEqual(activation);
      record(SECTION, `from the instant to API server ${index + 1}'s change, s`, seconds(activation, at));
    }
    expect(load.failures).toEqual([]);
  });

  it("three nodes read what is under the former KEK until it has been rewritten", async () => {
    const before = await storedKeyIds(cluster.plane.etcd, NAMESPACE);
    for (const name of EARLY) expect(before.get(name)).toBe(former);
    for (const node of nodes) await expectReadable(node, EARLY);
    const [first] = nodes.map(clientOf);
    const begun = Date.now();
    record(SECTION, "Secrets rewritten", (await first?.rewriteSecrets()) ?? 0);
    record(SECTION, "rewritten within, s", seconds(begun, Date.now()));
    const after = await storedKeyIds(cluster.plane.etcd, NAMESPACE);
    expect(new Set(after.values())).toEqual(new Set([rotated.keyId]));
    await kmsPkcs11Ok([
      "etcd",
      "usage",
      "--endpoints",
      cluster.plane.etcd.endpoint,
      "--fail-if-used",
      former,
    ]);
  });

  it("three nodes continue after the former KEK is destroyed, and after a restart", async () => {
    const { token, plugins } = cluster;
    for (const [index, client] of clients.entries()) {
      const opened = await client.decrypt(sealOf(index), "kept");
      expect(opened.equals(Buffer.alloc(32, 7))).toBe(true);
    }
    const proof = ["--i-understand-data-is-lost", former];
    await kmsPkcs11Ok(["keys", "destroy", former, ...proof, "--key", token.uri()], token.env);
    for (const [index, client] of clients.entries()) {
      const refusal = await until("what was kept is forgotten", () =>
        client.decrypt(sealOf(index), "gone").then(() => false, String),
      );
      expect(refusal).toContain(`no KEK with key_id "${former}" is on the token`);
    }
    for (const node of nodes) expect(await readyz(node)).toEqual([200, 200]);
    expect((await compareNodes(plugins)).code).toBe(0);
    await load.stop();
    record(
      SECTION,
      "writes, reads by another, failures",
      [load.written, load.read, load.failures.length].join(", "),
    );
    expect(load.failures).toEqual([]);
    await Promise.all(nodes.map(({ apiserver }) => apiserver.restart()));
    for (const node of nodes) {
      expect(await load.verify(clientOf(node))).toBe(load.written);
      await expectReadable(node, EARLY);
    }
  });

  const sealOf = (index: number): KmsCiphertext => {
    const seal = seals[index];
    if (seal === undefined) throw new Error(`plugin ${index} has encrypted nothing`);
    return seal;
  };
});

describe("three nodes on clones, one of which gets the new KEK late", () => {
  const SECTION = "rotation, three clones";
  let late: Node;
  let original: SoftHsmToken;
  let lateToken: SoftHsmToken;
  let punctual: Node[];
  const pid = (): (number | undefined)[] => nodes.map(({ plugin }) => plugin.pid);
  let pids: (number | undefined)[];

  beforeAll(async () => {
    original = await SoftHsmToken.create();
    cluster = await KmsCluster.start(original);
    const clone = await original.clone();
    lateToken = await original.clone();
    await startNodes([original, clone, lateToken]);
    const [first, second, third] = nodes as [Node, Node, Node];
    punctual = [first, second];
    late = third;
    pids = pid();
    load = Load.start(punctual.map(clientOf), NAMESPACE, pace);
    rotated = await rotateKek(original, "--activate-in", "15s");
    await original.copyKeysTo(clone);
  });

  afterAll(async () => {
    await load.stop();
    await cluster.stop();
  });

  it("nodes that have the clone switch without a failed request", async () => {
    const { keyId, activation } = rotated;
    const changed = await Promise.all(punctual.map(({ apiserver }) => changeOver(apiserver, keyId)));
    record(
      SECTION,
      "from the instant to the last punctual API server's change, s",
      seconds(activation, Math.max(...changed)),
    );
    expect(load.failures).toEqual([]);
  });

  it("a node that lacks the new KEK writes and reads under the former KEK only", async () => {
    for (const [index, node] of nodes.entries()) await write(node, `meanwhile-${index}`);
    expect(await keyIdOf("meanwhile-0")).toBe(rotated.keyId);
    expect(await keyIdOf("meanwhile-2")).toBe(former);
    for (const node of punctual) await expectReadable(node, [...EARLY, "meanwhile-1", "meanwhile-2"]);
    await expectReadable(late, [...EARLY, "meanwhile-2"]);
    await expect(clientOf(late).readSecret(NAMESPACE, "meanwhile-0")).rejects.toThrow(
      /no KEK with key_id .* is on the token/,
    );
    // As intended, the API server asks for Status only and stays ready; the commands and the metrics show the
    // difference.
    expect(await readyz(late)).toEqual([200, 200]);
    const { code, stdout } = await compareNodes(cluster.plugins);
    expect(code).toBe(1);
    expect(stdout).toContain(`http://${late.plugin.places.http}/keys has no retired`);
    const destroy = [
      "keys",
      "destroy",
      former,
      "--i-understand-data-is-lost",
      former,
      "--key",
      original.uri(),
    ];
    const refused = await kmsPkcs11([...destroy, "--nodes", nodeUrls(cluster.plugins)], original.env);
    expect([refused.code, refused.stderr]).toEqual([1, expect.stringContaining("is active there")]);
    expect(load.failures).toEqual([]);
  });

  it("a late node recovers when it gets the clone, without a restart", async () => {
    await original.copyKeysTo(lateToken);
    const arrived = Date.now();
    await until("what was written meanwhile is read", () =>
      expectReadable(late, ["meanwhile-0"]).then(() => true),
    );
    record(
      SECTION,
      "from the key's arrival until the late API server reads, s",
      seconds(arrived, Date.now()),
    );
    const names = EARLY.length + 3;
    await until("it lists everything", async () => {
      const { items } = await clientOf(late).core.listNamespacedSecret({ namespace: NAMESPACE });
      return items.length >= names + load.written;
    });
    record(SECTION, "until it lists, s", seconds(arrived, Date.now()));
    let count = 0;
    await until(
      "it changes over",
      async () => {
        await readyz(late);
        const name = `late-${count++}`;
        await write(late, name);
        return (await keyIdOf(name)) === rotated.keyId;
      },
      { timeoutMs: 60_000, intervalMs: 1_000 },
    );
    record(SECTION, "until it changes over, s", seconds(arrived, Date.now()));
    expect((await compareNodes(cluster.plugins)).code).toBe(0);
    await load.stop();
    expect(load.failures).toEqual([]);
    expect(pid()).toEqual(pids);
  });
});
