// Reading every object of a real etcd: paging, consistency at one revision, compaction, large values, several endpoints
// and TLS.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import {
  Server,
  ServerCredentials,
  status,
  type handleUnaryCall,
  type ServiceDefinition,
} from "@grpc/grpc-js";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { EtcdClient } from "../../src/etcd/client.js";
import type { EtcdAccess } from "../../src/etcd/endpoints.js";
import type { RangeObserver } from "../../src/etcd/range-scan.js";
import { EtcdStore, type StoredObject } from "../../src/etcd/store.js";
import { startEtcd, startLearner, type TestEtcd } from "../support/etcd.js";
import { freePort } from "../support/free-port.js";
import { makeFolder } from "../support/token.js";

let etcd: TestEtcd;
const clients: EtcdClient[] = [];

beforeAll(async () => {
  etcd = await startEtcd();
});
afterAll(async () => {
  for (const client of clients) client.close();
  await etcd.remove();
});

const connect = (access: Partial<EtcdAccess> = {}): EtcdClient => {
  const client = new EtcdClient({ endpoints: [etcd.endpoint], ...access });
  clients.push(client);
  return client;
};
const numbered = (prefix: string, count: number): [string, Buffer][] =>
  Array.from({ length: count }, (_, at) => [`${prefix}${String(at).padStart(6, "0")}`, Buffer.from("k8s\0")]);
const all = async (store: EtcdStore, observer?: RangeObserver): Promise<StoredObject[]> => {
  const objects: StoredObject[] = [];
  for await (const object of store.objects(observer)) objects.push(object);
  return objects;
};

describe("reading a prefix", () => {
  it("reading a prefix yields its objects in order, with their revisions", async () => {
    await etcd.store.put("/one/secrets/ns/b", Buffer.from("k8s\0b"));
    await etcd.store.put("/one/secrets/ns/a", Buffer.from("k8s:enc:aescbc:v1:key1:x"));
    await etcd.store.put("/one/secrets/ns/a", Buffer.from("k8s:enc:secretbox:v1:key1:x"));
    await etcd.store.put("/one/odd", Buffer.from("odd"));
    await etcd.store.put("/one-more/secrets/ns/a", Buffer.from("k8s\0"));
    const store = new EtcdStore(connect(), "one");
    const totals: number[] = [];
    const objects = await all(store, { total: (total) => totals.push(total) });
    expect(objects).toMatchObject([
      { key: "/one/odd", value: { code: "INPUT_INVALID" } },
      { key: "/one/secrets/ns/a", value: { kind: "other-provider", provider: "secretbox:v1" } },
      { key: "/one/secrets/ns/b", value: { kind: "plaintext" } },
    ]);
    const [, a, b] = objects;
    expect((a?.createRevision ?? 0) + 1).toBe(a?.modRevision);
    expect(b?.modRevision).toBe(b?.createRevision);
    expect(totals).toEqual([3]);
    expect(store.revisions?.first).toBe(store.revisions?.last);
  });

  it("reading a prefix without objects yields nothing", async () => {
    expect(await all(new EtcdStore(connect(), "/empty"))).toEqual([]);
    expect(await new EtcdStore(connect(), "/empty").object("/empty/a/b")).toBeUndefined();
  });

  it("the reading of a prefix reads many pages at one revision while others write", async () => {
    await etcd.store.putAll(numbered("/many/secrets/ns/", 1_000));
    const store = new EtcdStore(connect(), "/many/");
    const keys = new Set<string>();
    for await (const { key } of store.objects()) {
      if (keys.size === 0) {
        await etcd.store.putAll(numbered("/many/secrets/ns/9", 10));
        await etcd.store.delete("/many/secrets/ns/000999");
      }
      keys.add(key);
    }
    expect(keys.size).toBe(1_000);
    expect(keys.has("/many/secrets/ns/000999")).toBe(true);
  });

  it("a reading continues at a newer revision if its own is compacted, and reports that", async () => {
    await etcd.store.putAll(numbered("/compacted/secrets/ns/", 1_500));
    const store = new EtcdStore(connect(), "/compacted/");
    const seen: string[] = [];
    const totals: number[] = [];
    const moves: number[] = [];
    for await (const { key } of store.objects({
      total: (total) => totals.push(total),
      compacted: (revision) => moves.push(revision),
    })) {
      if (seen.length === 0) {
        await etcd.store.delete("/compacted/secrets/ns/001499");
        await etcd.store.compact();
      }
      seen.push(key);
    }
    expect(seen).toHaveLength(1_499);
    expect(new Set(seen).size).toBe(1_499);
    expect([totals[0], totals.at(-1)]).toEqual([1_500, 1_499]);
    expect(moves).toEqual([store.revisions?.last]);
    expect(store.revisions?.last).toBeGreaterThan(store.revisions?.first ?? Infinity);
  });

  it("reading a prefix throws if etcd stops", async () => {
    const mortal = await startEtcd();
    try {
      await mortal.store.putAll(numbered("/mortal/secrets/ns/", 1_000));
      const store = new EtcdStore(connect({ endpoints: [mortal.endpoint] }), "/mortal");
      let read = 0;
      const reading = async (): Promise<void> => {
        for await (const { key } of store.objects()) {
          read++;
          if (key.endsWith("000000")) await mortal.remove();
        }
      };
      await expect(reading()).rejects.toMatchObject({
        code: "PEER_UNREACHABLE",
        message: expect.stringContaining(mortal.endpoint) as string,
      });
      expect(read).toBeGreaterThan(0);
      expect(read).toBeLessThan(1_000);
    } finally {
      await mortal.remove();
    }
  });

  it("reading a prefix requests a smaller page if a page exceeds the message limit", async () => {
    const large = Buffer.alloc(1024 * 1024, 1);
    large.write("k8s\0");
    for (let at = 0; at < 20; at++) await etcd.store.put(`/large/a/${at}`, large);
    expect(await all(new EtcdStore(connect(), "/large"))).toHaveLength(20);
  });
});

describe("endpoints", () => {
  const dead = async (): Promise<string> => `127.0.0.1:${await freePort()}`;

  it("etcd endpoints are tried one after the other, and all are named if none answers", async () => {
    const [one, another] = [await dead(), await dead()];
    await expect(connect({ endpoints: [one, etcd.endpoint] }).cluster()).resolves.toMatchObject({
      id: expect.stringMatching(/^[0-9a-f]{1,16}$/) as string,
      version: expect.stringMatching(/^3\./) as string,
    });
    await expect(connect({ endpoints: [one, another] }).cluster()).rejects.toMatchObject({
      code: "PEER_UNREACHABLE",
      message: expect.stringMatching(new RegExp(`${one}: .*${another}: `)) as string,
    });
  });

  it("etcd endpoints are tried one after the other if one is a learner, which refuses reads", async () => {
    const learner = await startLearner(etcd);
    try {
      await etcd.store.put("/learnt/a", Buffer.from("{}"));
      const client = connect({ endpoints: [learner.endpoint, etcd.endpoint] });
      await expect(client.cluster()).resolves.toHaveProperty("id");
      expect(await all(new EtcdStore(client, "/learnt"))).toHaveLength(1);
      await expect(
        connect({ endpoints: [learner.endpoint] }).range({ key: Buffer.from("/"), limit: 1 }),
      ).rejects.toMatchObject({
        code: "PEER_UNREACHABLE",
        message: expect.stringContaining("rpc not supported for learner") as string,
      });
    } finally {
      await learner.remove();
    }
  });

  // A learner of etcd 3.4 answers UNAVAILABLE; one of 3.5 and later answers FAILED_PRECONDITION.
  it.each([
    "FAILED_PRECONDITION",
    "UNIMPLEMENTED",
    "RESOURCE_EXHAUSTED",
    "INTERNAL",
    "DATA_LOSS",
    "PERMISSION_DENIED",
  ] as const)("etcd endpoints are tried one after the other if one answers %s", async (code) => {
    const server = new Server();
    const bytes = (value: Buffer): Buffer => value;
    const identity = {
      requestSerialize: bytes,
      requestDeserialize: bytes,
      responseSerialize: bytes,
      responseDeserialize: bytes,
    };
    const path = "/etcdserverpb.KV/Range";
    server.addService(
      {
        Range: { path, requestStream: false, responseStream: false, ...identity },
      } satisfies ServiceDefinition,
      {
        Range: ((_call, reply) => {
          reply({ code: status[code], details: "etcdserver: not here" });
        }) as handleUnaryCall<Buffer, Buffer>,
      },
    );
    const port = await promisify(server.bindAsync.bind(server))(
      "127.0.0.1:0",
      ServerCredentials.createInsecure(),
    );
    try {
      const client = connect({ endpoints: [`127.0.0.1:${port}`, etcd.endpoint] });
      expect(await client.range({ key: Buffer.from("/"), limit: 1 })).toHaveProperty("revision");
    } finally {
      server.forceShutdown();
    }
  });

  it("etcd endpoints support TLS with a client certificate; an error names the options", async () => {
    const endpoints = [etcd.tlsEndpoint];
    const { certificate: cert, privateKey: key } = etcd;
    await expect(connect({ endpoints, cacert: cert, cert, key }).cluster()).resolves.toHaveProperty("id");
    const misnamed = { endpoints: [etcd.misnamedEndpoint], cacert: cert, cert, key };
    for (const access of [{ endpoints }, { endpoints, cacert: cert }, misnamed]) {
      await expect(connect(access).cluster()).rejects.toMatchObject({
        code: "PEER_UNREACHABLE",
        message: expect.stringContaining("--cacert, --cert and --key") as string,
      });
    }
  });

  it("etcd endpoints are refused if an address or a TLS file cannot be used", () => {
    const junk = join(makeFolder("pem"), "junk.pem");
    writeFileSync(junk, "junk");
    const refused: [Partial<EtcdAccess>, string][] = [
      [{ endpoints: [] }, "--endpoints: give at least one endpoint"],
      [{ endpoints: ["ftp://h:1"] }, "is not an endpoint"],
      [{ endpoints: ["host"] }, "is not an endpoint"],
      [{ endpoints: ["https://127.0.0.1:99999"] }, "is not an endpoint"],
      [{ endpoints: ["127.0.0.1:0"] }, "is not an endpoint"],
      [{ cert: junk }, "--cert and --key: give both or neither"],
      [{ endpoints: ["https://h:1"], cacert: "/no/such/file" }, "--cacert: /no/such/file cannot be read"],
      [{ endpoints: ["https://h:1"], cert: junk, key: junk }, "are not matching PEM files"],
    ];
    for (const [access, message] of refused) expect(() => connect(access)).toThrow(message);
  });
});
