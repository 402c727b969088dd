// Objects are rewritten only through the API server of the cluster whose etcd is read. Uses a real etcd, and an API
// that answers like its own cluster or like another one.

import protobuf from "protobufjs";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { ApiResources } from "../../src/etcd/api-resources.js";
import { EtcdClient } from "../../src/etcd/client.js";
import { compareClusters, type Comparison } from "../../src/etcd/same-cluster.js";
import { EtcdStore } from "../../src/etcd/store.js";
import { runCommand } from "../support/command.js";
import { startEtcd, type TestEtcd } from "../support/etcd.js";
import { StandInApi, type Answer } from "./stand-in-api.js";

const UID = "4b8e1f6a-0000-4000-8000-000000000001";
const NAMESPACE = "/registry/namespaces/kube-system";
const OBJECT = "/registry/secrets/ns/a";
/** Under a provider that is not active, so it must be rewritten. */
const ENCRYPTED = "k8s:enc:aescbc:v1:key1:0123456789abcdef";
const FORBIDDEN: Answer = { status: 403, body: { message: "forbidden" } };
const RESOURCES = {
  kind: "APIGroupDiscoveryList",
  items: [
    {
      metadata: { name: "" },
      versions: [
        {
          version: "v1",
          resources: [{ resource: "secrets", scope: "Namespaced", verbs: ["patch"] }],
        },
      ],
    },
  ],
};

let etcd: TestEtcd;
let client: EtcdClient;
let store: EtcdStore;
let standIn: StandInApi | undefined;

beforeAll(async () => {
  etcd = await startEtcd();
  client = new EtcdClient({ endpoints: [etcd.endpoint] });
  store = new EtcdStore(client, "/registry");
});

afterEach(async () => {
  await standIn?.close();
  standIn = undefined;
});

afterAll(async () => {
  client.close();
  await etcd.remove();
});

/** Returns a Namespace as kube-apiserver stores it, with a name and a UID in its metadata. */
function protobufNamespace(uid: string): Buffer {
  const metadata = protobuf.Writer.create().uint32(10).string("kube-system").uint32(42).string(uid).finish();
  const namespace = protobuf.Writer.create().uint32(10).bytes(metadata).finish();
  const type = protobuf.Writer.create().uint32(10).string("v1").uint32(18).string("Namespace").finish();
  const unknown = protobuf.Writer.create().uint32(10).bytes(type).uint32(18).bytes(namespace).finish();
  return Buffer.concat([Buffer.from("k8s\0"), unknown]);
}

interface Api {
  /** The answer for the namespace kube-system; if omitted, it matches etcd. */
  readonly namespace?: Answer;
  readonly list?: Answer;
  readonly object?: Answer;
  readonly uid?: string;
}

async function revisions(): Promise<{
  namespace: number | undefined;
  object: number | undefined;
  store: number;
}> {
  const [namespace, object] = [await store.object(NAMESPACE), await store.object(OBJECT)];
  return { namespace: namespace?.modRevision, object: object?.modRevision, store: await store.revision() };
}

const metadata = (resourceVersion: number | undefined, uid?: string): Answer =>
  resourceVersion === undefined
    ? { status: 404, body: { reason: "NotFound" } }
    : { status: 200, body: { metadata: { resourceVersion: String(resourceVersion), uid } } };

/** Returns an API that answers like one on this etcd, except for the given answers. */
async function apiWith({ namespace, list, object, uid = UID }: Api): Promise<StandInApi> {
  const own = await revisions();
  return new StandInApi(({ path, method }) => {
    if (path === "/api" || path === "/apis") {
      return { status: 200, body: path === "/api" ? RESOURCES : { ...RESOURCES, items: [] } };
    }
    if (method !== "GET") return metadata(own.object);
    if (path.startsWith("/api/v1/namespaces?")) return list ?? metadata(own.store);
    return path === "/api/v1/namespaces/kube-system"
      ? (namespace ?? metadata(own.namespace, uid))
      : (object ?? metadata(own.object, uid));
  });
}

async function compare(answers: Api): Promise<Comparison> {
  standIn = await apiWith(answers);
  const api = await standIn.connect();
  try {
    const resources = await ApiResources.discover(api);
    return await compareClusters({ store, prefix: "/registry/", api, resources }, () => store.objects());
  } finally {
    api.close();
  }
}

describe.each<[string, Buffer | undefined]>([
  ["a namespace in clear", protobufNamespace(UID)],
  ["a namespace as JSON", Buffer.from(JSON.stringify({ metadata: { uid: UID } }))],
  ["an encrypted namespace", Buffer.from(ENCRYPTED)],
  ["no namespace", undefined],
])("the comparison of clusters with %s in etcd", (what, value) => {
  const isClear = value !== undefined && !value.toString("latin1").startsWith("k8s:enc:");

  beforeAll(async () => {
    await etcd.store.put(OBJECT, Buffer.from(ENCRYPTED));
    if (value === undefined) await etcd.store.delete(NAMESPACE);
    else await etcd.store.put(NAMESPACE, value);
  });

  it("the cluster check recognises the same cluster, even if some requests are forbidden", async () => {
    for (const answers of [
      {},
      { list: FORBIDDEN },
      { namespace: FORBIDDEN },
      { namespace: FORBIDDEN, list: FORBIDDEN },
    ]) {
      expect(await compare(answers)).toMatchObject({ verdict: "same" });
    }
  });

  it("the cluster check recognises another cluster and a copy of this cluster", async () => {
    const { namespace = 0, object = 0, store: newest } = await revisions();
    const hidden = { namespace: FORBIDDEN, list: FORBIDDEN };
    const others: Api[] = [
      { ...hidden, object: metadata(undefined) },
      { ...hidden, object: metadata(object + 1) },
    ];
    if (value !== undefined) {
      others.push(
        { namespace: metadata(undefined) },
        { namespace: metadata(namespace + 1, UID) },
        { list: metadata(newest + 1) },
        { list: metadata(newest - 1) },
      );
    }
    if (isClear) others.push({ uid: "another" }, { uid: "another", list: FORBIDDEN });
    for (const answers of others) {
      expect(await compare(answers), JSON.stringify(answers)).toMatchObject({ verdict: "different" });
    }
  });

  it("the cluster check has no verdict if every request is forbidden", async () => {
    const answers = { namespace: FORBIDDEN, list: FORBIDDEN, object: FORBIDDEN };
    expect(await compare(answers)).toMatchObject({
      verdict: "unknown",
      text: expect.stringContaining("403 forbidden") as string,
    });
    expect(what).not.toBe("");
  });
});

describe("etcd migrate", () => {
  const KEY_ID = `${"07".repeat(16)}.c${"0".repeat(32)}`;

  async function migrate(
    kubeconfigs: string,
    ...more: string[]
  ): Promise<{ code: number | null; text: string }> {
    const args = [
      "etcd",
      "migrate",
      "--endpoints",
      etcd.endpoint,
      "--key-id",
      KEY_ID,
      "--wait",
      "0s",
      ...more,
    ];
    const { code, stdout, stderr } = await runCommand(args, { KUBECONFIG: kubeconfigs });
    return { code, text: stdout + stderr };
  }

  it.each(["--with=patches", "--with=svm", "--dry-run"])(
    "etcd migrate writes nothing through another cluster's API: %s",
    async (option) => {
      await etcd.store.put(NAMESPACE, protobufNamespace(UID));
      standIn = await apiWith({ uid: "another" });
      await standIn.listen();
      standIn.writeKubeconfig();
      const { code, text } = await migrate(standIn.kubeconfig, option, "--skip-cluster-check");
      expect([code, text]).toEqual([2, expect.stringContaining("is not an API server of this etcd")]);
      expect(standIn.asked.filter(({ method }) => method !== "GET")).toEqual([]);
    },
  );

  it("etcd migrate writes to an unverified cluster only with --skip-cluster-check", async () => {
    standIn = await apiWith({ namespace: FORBIDDEN, list: FORBIDDEN, object: FORBIDDEN });
    const other = await apiWith({});
    await Promise.all([standIn.listen(), other.listen()]);
    standIn.writeKubeconfig();
    other.writeKubeconfig();
    const list = `${standIn.kubeconfig}:${other.kubeconfig}`;
    expect(await migrate(list)).toMatchObject({
      code: 2,
      text: expect.stringContaining("--skip-cluster-check") as string,
    });
    expect(standIn.asked.filter(({ method }) => method !== "GET")).toEqual([]);
    expect((await migrate(list, "--skip-cluster-check")).code).toBe(1);
    expect(standIn.asked.filter(({ method }) => method === "PATCH")).not.toEqual([]);
    expect(other.asked).toEqual([]);
    await other.close();
  });
});
