// Objects that were changed in etcd without the API server: reading each fails with an error that gives the reason, and
// nothing else fails.

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { storageKey } from "./harness/etcd-store.js";
import { KmsCluster, NAMESPACE, type Node } from "./harness/kms-cluster.js";
import { parallel } from "./harness/parallel.js";
import { record } from "./harness/report.js";
import { formatStoredObject, parseStoredObject, type StoredObject } from "./harness/stored-object.js";
import { until } from "./harness/wait.js";

const OBJECTS = 20;
const valueOf = (name: string): string => `value of ${name}`;
const names = Array.from({ length: OBJECTS }, (_, index) => `t-${String(index).padStart(2, "0")}`);

let cluster: KmsCluster;
let node: Node;

beforeAll(async () => {
  cluster = await KmsCluster.start();
  node = await cluster.startNode();
  await parallel(OBJECTS, 4, (index) => {
    const name = names[index] ?? "";
    return node.apiserver.client.createSecret(NAMESPACE, name, valueOf(name));
  });
});

afterAll(async () => {
  await cluster.stop();
});

const keyOf = (name: string): string => storageKey("secrets", NAMESPACE, name);

async function stored(name: string): Promise<Buffer> {
  const value = await cluster.plane.etcd.store.get(keyOf(name));
  if (value === undefined) throw new Error(`${name} is not stored`);
  return value;
}

function flipped(bytes: Buffer, at: number): Buffer {
  const copy = Buffer.from(bytes);
  copy.writeUInt8(copy.readUInt8(at) ^ 1, at);
  return copy;
}

/** Changes parts of the EncryptedObject in a stored value. */
function changed(value: Buffer, change: (object: StoredObject) => Partial<StoredObject>): Buffer {
  const object = parseStoredObject(value);
  if (object === undefined) throw new Error("not stored by KMS v2");
  return formatStoredObject({ ...object, ...change(object) });
}

interface Tampering {
  readonly what: string;
  readonly victim: string;
  readonly tamper: (value: Buffer) => Buffer | Promise<Buffer>;
  /** Matches the API server's answer. */
  readonly says: RegExp;
}

const tamperings: readonly Tampering[] = [
  {
    what: "one flipped byte in the object's data",
    victim: "t-00",
    tamper: (value) =>
      changed(value, ({ encryptedData }) => ({
        encryptedData: flipped(encryptedData, encryptedData.length - 1),
      })),
    says: /message authentication failed/,
  },
  {
    what: "another object's ciphertext",
    victim: "t-01",
    tamper: () => stored("t-02"),
    says: /message authentication failed/,
  },
  {
    what: "one flipped byte in the encrypted DEK seed",
    victim: "t-03",
    tamper: (value) =>
      changed(value, ({ encryptedDekSource }) => ({
        encryptedDekSource: flipped(encryptedDekSource, encryptedDekSource.length - 1),
      })),
    says: /failed to decrypt DEK.*InvalidArgument/,
  },
  {
    what: "an unknown format version in the encrypted DEK seed",
    victim: "t-04",
    tamper: (value) =>
      changed(value, ({ encryptedDekSource }) => ({
        encryptedDekSource: Buffer.concat([Buffer.from([0xee]), encryptedDekSource.subarray(1)]),
      })),
    says: /failed to decrypt DEK.*InvalidArgument/,
  },
  {
    what: "an unknown key_id",
    victim: "t-05",
    tamper: (value) => changed(value, () => ({ keyId: "00000000000000000000000000000000.unknown" })),
    says: /failed to decrypt DEK.*NotFound.*00000000000000000000000000000000\.unknown/,
  },
  {
    what: "an annotation that was not there",
    victim: "t-06",
    tamper: (value) => changed(value, () => ({ annotations: { "extra.kms-pkcs11.dev": Buffer.from("1") } })),
    says: /failed to decrypt DEK.*InvalidArgument/,
  },
];

describe("an object that was tampered with in etcd", () => {
  it.each(tamperings)("$what: only the changed object's read fails, with the reason", async (tampering) => {
    const { client } = node.apiserver;
    const original = await stored(tampering.victim);
    await cluster.plane.etcd.store.put(keyOf(tampering.victim), await tampering.tamper(original));

    const answer = await client.get(`/api/v1/namespaces/${NAMESPACE}/secrets/${tampering.victim}`);
    expect(answer.status).toBe(500);
    const { message } = JSON.parse(answer.body) as { message: string };
    expect(message).toMatch(tampering.says);
    record("tampering", tampering.what, message);

    for (const name of names.filter((one) => one !== tampering.victim)) {
      expect((await client.readSecret(NAMESPACE, name)).toString()).toBe(valueOf(name));
    }
    await client.replaceSecret(NAMESPACE, "t-19", valueOf("t-19"));
    expect((await node.plugin.get("/readyz")).status).toBe(200);

    await cluster.plane.etcd.store.put(keyOf(tampering.victim), original);
    expect((await client.readSecret(NAMESPACE, tampering.victim)).toString()).toBe(valueOf(tampering.victim));
  });

  it("an object that was tampered with breaks LIST of its resource until it is removed", async () => {
    const { client } = node.apiserver;
    await cluster.plane.etcd.store.put(keyOf("t-00"), flipped(await stored("t-00"), 200));
    const list = (): Promise<unknown> => client.core.listNamespacedSecret({ namespace: NAMESPACE });
    // The watch cache may continue to answer for a moment.
    await until("LIST fails", () =>
      list().then(
        () => false,
        () => true,
      ),
    );
    await cluster.plane.etcd.store.delete(keyOf("t-00"));
    await until("LIST works again", () =>
      list().then(
        () => true,
        () => false,
      ),
    );
    const { items } = await client.core.listNamespacedSecret({ namespace: NAMESPACE });
    expect(items).toHaveLength(OBJECTS - 1);
  });
});
