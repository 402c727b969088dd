// Decrypts encryptedData as kube-apiserver does (k8s.io/apiserver, storage/value/encrypt/aes): AES-GCM with a 12-byte
// nonce in front and the etcd key as associated data. With a DEK seed, the first 32 bytes are the info from which
// HKDF-SHA256-Expand (RFC 5869, section 2.3) derives the object's key; otherwise the seed itself is the key. Keys are
// KeyObjects: with raw keys Node 24 takes four times as long.
import {
  createDecipheriv,
  createHmac,
  createSecretKey,
  type CipherGCMTypes,
  type KeyObject,
} from "node:crypto";
import { KmsError } from "../errors.js";
import type { SeedUse } from "./stored-object.js";

const INFO_BYTES = 32;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const MIN_SEED_BYTES = 32;
const AES: Readonly<Record<number, CipherGCMTypes>> = {
  16: "aes-128-gcm",
  24: "aes-192-gcm",
  32: "aes-256-gcm",
};
/** The counter of the expansion's only block: SHA-256 gives the 32 bytes that are needed. */
const FIRST_BLOCK = Buffer.of(1);

/**
 * Returns the plaintext, for the caller to zero.
 * @param etcdKey the whole key, including the prefix
 * @throws KmsError NOT_AUTHENTIC; INPUT_INVALID if the data or the seed is too short
 */
export function openData(seed: KeyObject, use: SeedUse, data: Uint8Array, etcdKey: string): Buffer {
  if (use === "aes-gcm-key") return openSealed(seed, data, etcdKey);
  if (sizeOf(seed) < MIN_SEED_BYTES) throw invalid("its DEK seed is shorter than 32 bytes");
  if (data.length < INFO_BYTES) throw invalid("its data is too short");
  const info = data.subarray(0, INFO_BYTES);
  const dataKey = createHmac("sha256", seed).update(info).update(FIRST_BLOCK).digest();
  try {
    return openSealed(createSecretKey(dataKey), data.subarray(INFO_BYTES), etcdKey);
  } finally {
    dataKey.fill(0);
  }
}

function openSealed(dataKey: KeyObject, data: Uint8Array, etcdKey: string): Buffer {
  const algorithm = AES[sizeOf(dataKey)];
  if (algorithm === undefined) throw invalid("its DEK seed does not have the length of an AES key");
  if (data.length < NONCE_BYTES + TAG_BYTES) throw invalid("its data is too short");
  const tagAt = data.length - TAG_BYTES;
  const decipher = createDecipheriv(algorithm, dataKey, data.subarray(0, NONCE_BYTES), {
    authTagLength: TAG_BYTES,
  });
  decipher.setAAD(Buffer.from(etcdKey)).setAuthTag(data.subarray(tagAt));
  const plaintext = decipher.update(data.subarray(NONCE_BYTES, tagAt));
  try {
    decipher.final();
    return plaintext;
  } catch (error) {
    plaintext.fill(0);
    throw new KmsError(
      "NOT_AUTHENTIC",
      "its data does not authenticate: it was changed, or moved from another etcd key",
      error,
    );
  }
}

function sizeOf(key: KeyObject): number {
  return key.symmetricKeySize ?? 0;
}

function invalid(message: string): KmsError {
  return new KmsError("INPUT_INVALID", message);
}
