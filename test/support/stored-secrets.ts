// Objects as kube-apiserver stores them, made without kube-apiserver: a running plugin encrypts a DEK seed, and the
// tests' own code seals the data under it (HKDF of node:crypto would extract first; kube-apiserver only expands).

import { createCipheriv, createHmac, randomBytes } from "node:crypto";
import { KmsClient, type KmsCiphertext } from "../../src/kms-client/kms-client.js";
import { parallel } from "../e2e/harness/parallel.js";
import { formatStoredObject, type StoredObject } from "../e2e/harness/stored-object.js";

/** Limit for calls that hang, not for slow ones. */
const PATIENCE_MS = 30_000;

export interface StoredSeed {
  readonly seed: Buffer;
  readonly encrypted: KmsCiphertext;
}

/** Returns a DEK seed like that of an API server that starts. */
export async function newSeed(socket: string, bytes = 32): Promise<StoredSeed> {
  const client = new KmsClient(socket);
  try {
    return await encryptedSeed(client, bytes);
  } finally {
    client.close();
  }
}

/** Returns many seeds, made over one connection. */
export async function newSeeds(socket: string, count: number): Promise<StoredSeed[]> {
  const client = new KmsClient(socket, PATIENCE_MS);
  try {
    return await parallel(count, 16, () => encryptedSeed(client, 32));
  } finally {
    client.close();
  }
}

async function encryptedSeed(client: KmsClient, bytes: number): Promise<StoredSeed> {
  const seed = randomBytes(bytes);
  return { seed, encrypted: await client.encrypt(seed, "test") };
}

/**
 * Returns the EncryptedObject of a value.
 * @param type 1: the data key is derived from the seed; 0: the seed is the data key
 */
export function sealedObject(
  { seed, encrypted }: StoredSeed,
  etcdKey: string,
  plaintext: string,
  type: 0 | 1 = 1,
): StoredObject {
  const info = type === 1 ? randomBytes(32) : Buffer.alloc(0);
  const dataKey =
    type === 1
      ? createHmac("sha256", seed)
          .update(Buffer.concat([info, Buffer.of(1)]))
          .digest()
      : seed;
  const nonce = randomBytes(12);
  const cipher = createCipheriv(`aes-${dataKey.length * 8}-gcm` as "aes-256-gcm", dataKey, nonce);
  cipher.setAAD(Buffer.from(etcdKey));
  const sealed = Buffer.concat([cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
  return {
    provider: "hsm",
    encryptedData: Buffer.concat([info, nonce, sealed]),
    keyId: encrypted.keyId,
    encryptedDekSource: encrypted.ciphertext,
    annotations: encrypted.annotations,
    encryptedDekSourceType: type,
  };
}

/** Returns the value that etcd stores for `sealedObject`. */
export function sealedValue(...args: Parameters<typeof sealedObject>): Buffer {
  return formatStoredObject(sealedObject(...args));
}
