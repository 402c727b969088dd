// Parses what kube-apiserver stores under one etcd key: a value in clear, or one encrypted by the provider in its
// prefix. Reads the KMS v2 EncryptedObject (k8s.io/apiserver, storage/value/encrypt/envelope/kmsv2/v2/api.proto) with
// the checks of the API server; bytes fields are views of the value. Decrypts nothing.
import { isUtf8 } from "node:buffer";
import protobuf from "protobufjs/minimal.js";
import { KmsError } from "../errors.js";
import { MAX_ANNOTATION_BYTES, type Annotations } from "../provider/kms.js";

/** How the data key is derived from the DEK seed: the EncryptedObject's encryptedDEKSourceType. */
export type SeedUse = "aes-gcm-key" | "hkdf-sha256-seed";

export interface EncryptedObject {
  readonly encryptedData: Uint8Array;
  readonly keyId: string;
  /** The field encryptedDEKSource. */
  readonly encryptedSeed: Uint8Array;
  readonly annotations: Annotations;
  readonly seedUse: SeedUse;
}

export type PlainEncoding = "protobuf" | "json" | "cbor";

export type StoredValue =
  | { readonly kind: "kms-v2"; readonly providerName: string; readonly object: EncryptedObject }
  /**
   * `provider` is the part of the prefix after `k8s:enc:`, such as `aescbc:v1`; `keyName` is the key or plugin behind
   * it.
   */
  | { readonly kind: "other-provider"; readonly provider: string; readonly keyName: string }
  | { readonly kind: "plaintext"; readonly encoding: PlainEncoding; readonly bytes: Buffer };

const ENCRYPTED_PREFIX = Buffer.from("k8s:enc:");
/** Each provider's prefix ends with the name of a key or plugin and a colon. */
const PREFIX = /^k8s:enc:([a-z0-9]{1,32}:v[0-9a-z]{1,16}):([^:]{1,1024}):/;
const MAX_PREFIX_BYTES = 1_100;
const PROTOBUF_MAGIC = Buffer.from("k8s\0");
const CBOR_MAGIC = Buffer.of(0xd9, 0xd9, 0xf7);
const JSON_START = /^\s*[{[]/;

/** The limits of kube-apiserver (kmsv2 ValidateEncryptedObject), in bytes. */
const MAX_KEY_ID_BYTES = 1024;
const MAX_ENCRYPTED_SEED_BYTES = 1024;

const SEED_USES: readonly (SeedUse | undefined)[] = ["aes-gcm-key", "hkdf-sha256-seed"];

/**
 * Returns the parsed value.
 * @throws KmsError INPUT_INVALID unless it is a valid encrypted value or a Kubernetes object
 */
export function parseStoredValue(value: Buffer): StoredValue {
  if (!startsWith(value, ENCRYPTED_PREFIX)) {
    return { kind: "plaintext", encoding: encodingOf(value), bytes: value };
  }
  const head = value.toString("latin1", 0, MAX_PREFIX_BYTES);
  const [prefix, provider, name] = PREFIX.exec(head) ?? [];
  if (prefix === undefined || provider === undefined || name === undefined) {
    throw malformed("its prefix does not name a provider and a key");
  }
  const keyName = Buffer.from(name, "latin1").toString();
  if (provider !== "kms:v2") return { kind: "other-provider", provider, keyName };
  return {
    kind: "kms-v2",
    providerName: keyName,
    object: parseEncryptedObject(value.subarray(prefix.length)),
  };
}

function encodingOf(value: Buffer): PlainEncoding {
  if (startsWith(value, PROTOBUF_MAGIC)) return "protobuf";
  if (startsWith(value, CBOR_MAGIC)) return "cbor";
  if (JSON_START.test(value.toString("latin1", 0, 64))) return "json";
  throw malformed("it is neither encrypted nor a Kubernetes object");
}

function startsWith(value: Buffer, start: Buffer): boolean {
  return value.length >= start.length && value.compare(start, 0, start.length, 0, start.length) === 0;
}

function parseEncryptedObject(message: Buffer): EncryptedObject {
  let fields: Fields;
  try {
    fields = readFields(message);
  } catch (error) {
    throw malformed("its EncryptedObject is truncated or not protobuf", error);
  }
  const { encryptedData, keyId, encryptedSeed, annotations, type } = fields;
  const seedUse = SEED_USES[type];
  if (seedUse === undefined) throw malformed(`encryptedDEKSourceType ${type} is not known`);
  if (encryptedData.length === 0) throw malformed("it has no encrypted data");
  requireLength("encrypted DEK source", encryptedSeed.length, 1, MAX_ENCRYPTED_SEED_BYTES);
  requireLength("key_id", keyId.length, 1, MAX_KEY_ID_BYTES);
  if (!isUtf8(keyId)) throw malformed("its key_id is not UTF-8");
  let bytes = 0;
  for (const [name, content] of annotations) bytes += Buffer.byteLength(name) + content.length;
  requireLength("annotations", bytes, 0, MAX_ANNOTATION_BYTES);
  return {
    encryptedData,
    keyId: Buffer.from(keyId.buffer, keyId.byteOffset, keyId.length).toString(),
    encryptedSeed,
    annotations: Object.fromEntries(annotations),
    seedUse,
  };
}

interface Fields {
  encryptedData: Uint8Array;
  keyId: Uint8Array;
  encryptedSeed: Uint8Array;
  readonly annotations: Map<string, Uint8Array>;
  type: number;
}

const EMPTY: Uint8Array = new Uint8Array(0);
const VARINT = 0;
const LENGTH_DELIMITED = 2;
/** Field number and wire type of each field of EncryptedObject, as one protobuf tag. */
const TAG = {
  encryptedData: tagOf(1, LENGTH_DELIMITED),
  keyId: tagOf(2, LENGTH_DELIMITED),
  encryptedSeed: tagOf(3, LENGTH_DELIMITED),
  annotations: tagOf(4, LENGTH_DELIMITED),
  type: tagOf(5, VARINT),
};
const ENTRY_KEY = tagOf(1, LENGTH_DELIMITED);
const ENTRY_VALUE = tagOf(2, LENGTH_DELIMITED);

function tagOf(field: number, wireType: number): number {
  return (field << 3) | wireType;
}

/**
 * Reads the fields as Go's proto.Unmarshal does: the last of several values counts, and a field that is unknown or has
 * another wire type is skipped. Generated protobufjs decoders accept a known field with any wire type.
 * @throws Error of any kind if the message is truncated or malformed
 */
function readFields(message: Buffer): Fields {
  const fields: Fields = {
    encryptedData: EMPTY,
    keyId: EMPTY,
    encryptedSeed: EMPTY,
    annotations: new Map(),
    type: 0,
  };
  const reader = protobuf.Reader.create(message);
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    if (tag === TAG.encryptedData) fields.encryptedData = reader.bytes();
    else if (tag === TAG.keyId) fields.keyId = reader.bytes();
    else if (tag === TAG.encryptedSeed) fields.encryptedSeed = reader.bytes();
    else if (tag === TAG.annotations) fields.annotations.set(...readEntry(reader.bytes()));
    else if (tag === TAG.type) fields.type = reader.int32();
    else skip(reader, tag);
  }
  return fields;
}

function readEntry(entry: Uint8Array): [name: string, content: Uint8Array] {
  let name = EMPTY;
  let content = EMPTY;
  const reader = protobuf.Reader.create(entry);
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    if (tag === ENTRY_KEY) name = reader.bytes();
    else if (tag === ENTRY_VALUE) content = reader.bytes();
    else skip(reader, tag);
  }
  if (!isUtf8(name)) throw new Error("the name of an annotation is not UTF-8");
  return [Buffer.from(name.buffer, name.byteOffset, name.length).toString(), content];
}

function skip(reader: protobuf.Reader, tag: number): void {
  if (tag >>> 3 === 0) throw new Error("field number 0");
  reader.skipType(tag & 7);
}

function requireLength(what: string, bytes: number, min: number, max: number): void {
  if (bytes < min || bytes > max) throw malformed(`its ${what} has ${bytes} bytes, not ${min} to ${max}`);
}

function malformed(reason: string, cause?: unknown): KmsError {
  return new KmsError("INPUT_INVALID", `the stored value cannot be read: ${reason}`, cause);
}
