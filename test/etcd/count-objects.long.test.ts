// Counting all objects with several range requests and threads: the same result as a serial reading of a real etcd, and no
// result at all after any failure.

import { createSecretKey, randomBytes } from "node:crypto";
import { pathToFileURL } from "node:url";
import { join } from "node:path";
import { writeFileSync } from "node:fs";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { KmsError } from "../../src/errors.js";
import { Census } from "../../src/etcd/census.js";
import { EtcdClient } from "../../src/etcd/client.js";
import { takeCensus, verifyObjects } from "../../src/etcd/count-objects.js";
import { Seeds, type LoadSeed } from "../../src/etcd/seeds.js";
import { EtcdStore, type Batch, type ObjectStore } from "../../src/etcd/store.js";
import { startEtcd, type TestEtcd } from "../support/etcd.js";
import { rangeResponse } from "../support/range-response.js";
import { sealedValue, type StoredSeed } from "../support/stored-secrets.js";
import { makeFolder } from "../support/token.js";

const threadEntry = new URL("../../dist/etcd/threads/counting-thread.js", import.meta.url);
let etcd: TestEtcd;
let client: EtcdClient;

beforeAll(async () => {
  etcd = await startEtcd();
  client = new EtcdClient({ endpoints: [etcd.endpoint] });
});
afterAll(async () => {
  client.close();
  await etcd.remove();
});

const newSeed = (name: string): StoredSeed => ({
  seed: randomBytes(32),
  encrypted: {
    ciphertext: Buffer.from(name),
    keyId: `key-${name}`,
    annotations: { "a.b": Buffer.from(name) },
  },
});
const seeds = Array.from({ length: 40 }, (_, at) => newSeed(`seed-${at}`));

/** Stores values of every kind, so that a count that misses one or takes one twice differs. */
const valueOf = (at: number, key: string): Buffer => {
  const seed = seeds[at % seeds.length];
  if (at % 7 === 0) return Buffer.from("{}");
  if (at % 7 === 1) return Buffer.from("k8s:enc:aescbc:v1:key1:0123");
  if (at % 50 === 2) return Buffer.from("neither");
  return seed === undefined ? Buffer.alloc(0) : sealedValue(seed, key, "a value");
};

async function stock(keys: readonly string[]): Promise<void> {
  await etcd.store.putAll(keys.map((key, at): [string, Buffer] => [key, valueOf(at, key)]));
}

describe("the census in threads", () => {
  it.each<[string, (at: number) => string]>([
    ["one huge namespace", (at) => `secrets/default/object-${at}`],
    ["skewed keys", (at) => `${"z".repeat(at % 90)}/${at}`],
    ["binary keys", (at) => `secrets/\u0001\u0000\u{10ffff}${String.fromCodePoint(at + 1)}/${at}`],
    ["a few keys at both ends of a gap", (at) => (at < 5 ? `a/${at}` : `z/${"y".repeat(200)}${at}`)],
  ])("the census in threads equals that of a serial reading after deletions: %s", async (what, name) => {
    const prefix = `/${what.replaceAll(" ", "-")}/`;
    const keys = [...new Set(Array.from({ length: 2_600 }, (_, at) => prefix + name(at)))];
    await stock(keys);
    for (const key of keys.filter((_, at) => at % 500 === 3)) await etcd.store.delete(key);
    await etcd.store.put(`${prefix}large`, Buffer.alloc(1_400_000, "k8s\0"));
    const store = new EtcdStore(client, prefix);
    const serial = new Census({ prefix });
    for await (const object of store.objects()) serial.add(object);
    const counted: number[] = [];
    const observer = { counted: (objects: number) => counted.push(objects) };
    const census = await takeCensus(store, { prefix, threadEntry, observer });
    expect(census.result()).toEqual(serial.result());
    expect(census.objects).toBe(await etcd.store.count(prefix));
    expect(counted.at(-1)).toBe(census.objects);
    expect(counted.length).toBeGreaterThan(1);
  });

  it("the census in threads is the same however the objects are divided among threads", () => {
    const key = fc.constantFrom("k1", "k2", "k3");
    const object = fc.record({ at: fc.nat(200), keyId: key, thread: fc.nat(3) });
    fc.assert(
      fc.property(fc.array(object, { maxLength: 60 }), (objects) => {
        const whole = new Census({ prefix: "/registry" });
        const parts = Array.from({ length: 4 }, () => new Census({ prefix: "/registry" }));
        for (const { at, keyId, thread } of objects) {
          const one = storedObject(at, keyId);
          whole.add(one);
          parts[thread]?.add(one);
        }
        const merged = new Census({ prefix: "/registry" });
        for (const part of parts) merged.merge(structuredClone(part.part()));
        expect(merged.result(() => true)).toEqual(whole.result(() => true));
      }),
    );
  });
});

function storedObject(at: number, keyId: string): Parameters<Census["add"]>[0] {
  const head = { key: `/registry/${at % 2 === 0 ? "secrets" : "a.b/widgets"}/ns-${at % 9}/${at}` };
  const revisions = { createRevision: at, modRevision: at };
  if (at % 5 === 0) return { ...head, ...revisions, value: new KmsError("INPUT_INVALID", "unreadable") };
  if (at % 5 === 1) {
    return { ...head, ...revisions, value: { kind: "plaintext", encoding: "json", bytes: Buffer.alloc(0) } };
  }
  const object = {
    encryptedData: Buffer.alloc(9),
    keyId,
    encryptedSeed: Buffer.from(`seed-${at % 6}`),
    annotations: {},
    seedUse: "hkdf-sha256-seed",
  } as const;
  return { ...head, ...revisions, value: { kind: "kms-v2", providerName: "hsm", object } };
}

const load: LoadSeed = ({ encryptedSeed }) => {
  const found = seeds.find(({ encrypted }) => Buffer.compare(encrypted.ciphertext, encryptedSeed) === 0);
  return Promise.resolve(
    found === undefined
      ? { refusal: new KmsError("NOT_AUTHENTIC", "no such seed") }
      : { seed: createSecretKey(found.seed) },
  );
};

describe("the verification in threads", () => {
  const prefix = "/verified/";
  const keys = Array.from({ length: 3_000 }, (_, at) => `${prefix}secrets/ns-${at % 30}/${at}`);

  beforeAll(async () => {
    await stock(keys);
    await etcd.store.put(`${prefix}secrets/a/foreign`, sealedValue(newSeed("foreign"), "x", "value"));
    const [seed] = seeds;
    if (seed !== undefined) await etcd.store.put(`${prefix}secrets/a/moved`, sealedValue(seed, "y", "value"));
  });

  it("a verification loads each DEK seed once, opens every object and names the altered ones", async () => {
    const loaded: string[] = [];
    const all = new Seeds((question) => {
      loaded.push(question.keyId);
      return load(question);
    });
    const result = await verifyObjects(new EtcdStore(client, prefix), all, { prefix, threadEntry });
    const [secrets] = result.resources;
    expect([...loaded].sort()).toEqual([...new Set(loaded)].sort());
    expect(loaded).toHaveLength(seeds.length + 1);
    expect(secrets).toMatchObject({ objects: keys.length + 2, plaintext: 429 });
    expect(result.failures).toContainEqual({
      reason: "no such seed",
      objects: 1,
      keys: [`${prefix}secrets/a/foreign`],
    });
    expect(result.failures).toContainEqual({
      reason: expect.stringContaining("does not authenticate") as string,
      objects: 1,
      keys: [`${prefix}secrets/a/moved`],
    });
  });

  it("the verification in threads fails if a DEK seed cannot be loaded, as when the HSM is away", async () => {
    const away = new Seeds((question) =>
      question.keyId === "key-seed-39"
        ? Promise.reject(new KmsError("HSM_UNAVAILABLE", "the HSM is away"))
        : load(question),
    );
    const verifying = verifyObjects(new EtcdStore(client, prefix), away, { prefix, threadEntry });
    await expect(verifying).rejects.toMatchObject({ code: "HSM_UNAVAILABLE", message: "the HSM is away" });
  });
});

describe("a failure of any part", () => {
  const batch = (name: string): Batch => {
    const keys = Array.from({ length: 1_500 }, (_, at) => Buffer.from(`/registry/secrets/${name}/${at}`));
    return { bytes: rangeResponse(keys, keys.length, Buffer.from("{}")), objects: keys.length };
  };
  const storeOf = (batches: () => AsyncGenerator<Batch, void>): ObjectStore =>
    ({ batches }) as unknown as ObjectStore;
  // eslint-disable-next-line @typescript-eslint/require-await
  async function* sound(): AsyncGenerator<Batch, void> {
    for (const name of ["a", "b", "c", "d", "e", "f", "g", "h"]) yield batch(name);
  }
  const entryOf = (name: string, program: string): URL => {
    const file = join(makeFolder("thread"), `${name}.mjs`);
    writeFileSync(file, program);
    return pathToFileURL(file);
  };
  const census = (store: ObjectStore, entry = threadEntry): Promise<Census> =>
    takeCensus(store, { prefix: "/registry", threadEntry: entry });

  it("a failure of any part of the reading fails the whole census", async () => {
    async function* broken(): AsyncGenerator<Batch, void> {
      yield* sound();
      throw new KmsError("PEER_UNREACHABLE", "the connection was lost");
    }
    await expect(census(storeOf(broken))).rejects.toMatchObject({ code: "PEER_UNREACHABLE" });
    expect((await census(storeOf(sound))).objects).toBe(12_000);
  });

  it.each([
    ["exits", `process.exit(0);`],
    ["throws", `throw new Error("out of memory");`],
    [
      "exits after it has counted a batch",
      `import { parentPort } from "node:worker_threads";
       parentPort.once("message", () => { parentPort.postMessage({ kind: "counted" }); setImmediate(() => process.exit(0)); });`,
    ],
  ])("the whole census fails if a thread %s", async (_what, program) => {
    await expect(census(storeOf(sound), entryOf("dying", program))).rejects.toMatchObject({
      code: "INTERNAL",
      message: expect.stringContaining("a thread has") as string,
    });
  });

  it("the whole census fails if a thread leaves an object out", async () => {
    const program = `import { parentPort } from "node:worker_threads";
      const empty = { rows: [], plaintext: [], unreadable: [] };
      parentPort.on("message", ({ kind }) => {
        parentPort.postMessage(kind === "batch" ? { kind: "counted" } : { kind: "part", part: empty });
      });`;
    await expect(census(storeOf(sound), entryOf("forgetful", program))).rejects.toMatchObject({
      code: "INTERNAL",
      message: expect.stringContaining("12000 objects were read and 0 counted") as string,
    });
  });

  it("the whole census fails if a batch is damaged", async () => {
    async function* damaged(): AsyncGenerator<Batch, void> {
      yield* sound();
      const { bytes, objects } = batch("i");
      yield { bytes: bytes.subarray(0, bytes.length - 20), objects };
    }
    await expect(census(storeOf(damaged))).rejects.toMatchObject({ code: "INTERNAL" });
  });
});
