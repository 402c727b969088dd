// A value in etcd as KMS v2 stores it: `k8s:enc:kms:v2:<provider>:` and a protobuf EncryptedObject (k8s.io/apiserver,
// storage/value/encrypt/envelope/kmsv2/v2/api.proto). Independent of the code under test, so that each checks the
// other.

const PREFIX = "k8s:enc:kms:v2:";

export interface StoredObject {
  readonly provider: string;
  readonly encryptedData: Buffer;
  readonly keyId: string;
  readonly encryptedDekSource: Buffer;
  readonly annotations: Readonly<Record<string, Buffer>>;
  /** 0: the data key itself, AES-GCM; 1: a seed, HKDF-SHA256 and AES-GCM. */
  readonly encryptedDekSourceType: number;
}

/** Parses a value; returns undefined if it is not from KMS v2: plaintext, or another provider's. */
export function parseStoredObject(value: Buffer): StoredObject | undefined {
  if (!value.subarray(0, PREFIX.length).equals(Buffer.from(PREFIX))) return undefined;
  const colon = value.indexOf(":", PREFIX.length);
  if (colon < 0) throw new Error("a KMS v2 prefix without a provider");
  let encryptedData: Buffer = Buffer.alloc(0);
  let encryptedDekSource: Buffer = Buffer.alloc(0);
  let keyId = "";
  let encryptedDekSourceType = 0;
  const annotations: Record<string, Buffer> = {};
  for (const field of fields(value.subarray(colon + 1))) {
    if (field.number === 1) encryptedData = field.bytes;
    if (field.number === 2) keyId = field.bytes.toString();
    if (field.number === 3) encryptedDekSource = field.bytes;
    if (field.number === 4) {
      const [key, text] = [...fields(field.bytes)];
      annotations[key?.bytes.toString() ?? ""] = text?.bytes ?? Buffer.alloc(0);
    }
    if (field.number === 5) encryptedDekSourceType = field.integer;
  }
  const provider = value.toString("utf8", PREFIX.length, colon);
  return { provider, encryptedData, keyId, encryptedDekSource, annotations, encryptedDekSourceType };
}

/** Returns the bytes for etcd, the inverse of parseStoredObject, for objects that a test has changed. */
export function formatStoredObject(object: StoredObject): Buffer {
  const entries = Object.entries(object.annotations).map(([key, value]) =>
    bytesField(4, Buffer.concat([bytesField(1, Buffer.from(key)), bytesField(2, value)])),
  );
  return Buffer.concat([
    Buffer.from(`${PREFIX}${object.provider}:`),
    bytesField(1, object.encryptedData),
    bytesField(2, Buffer.from(object.keyId)),
    bytesField(3, object.encryptedDekSource),
    ...entries,
    varintField(5, object.encryptedDekSourceType),
  ]);
}

interface Field {
  readonly number: number;
  readonly bytes: Buffer;
  readonly integer: number;
}

/** Yields the fields of a protobuf message that has varint (0) and length-delimited (2) fields only. */
function* fields(message: Buffer): Generator<Field> {
  let at = 0;
  const readVarint = (): number => {
    let result = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = message.readUInt8(at++);
      result += (byte & 127) * scale;
      if (byte < 128) return result;
    }
  };
  while (at < message.length) {
    const tag = readVarint();
    const integer = readVarint();
    if ((tag & 7) === 0) {
      yield { number: tag >> 3, bytes: Buffer.alloc(0), integer };
    } else if ((tag & 7) === 2 && at + integer <= message.length) {
      yield { number: tag >> 3, bytes: message.subarray(at, at + integer), integer };
      at += integer;
    } else {
      throw new Error(`not an EncryptedObject: tag ${tag} at byte ${at}`);
    }
  }
}

/** Returns a length-delimited field of a protobuf message. */
export function bytesField(number: number, bytes: Buffer): Buffer {
  return Buffer.concat([Buffer.from([(number << 3) | 2]), varint(bytes.length), bytes]);
}

/** Returns a varint field of a protobuf message. */
export function varintField(number: number, value: number): Buffer {
  return Buffer.concat([Buffer.from([number << 3]), varint(value)]);
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  for (; value > 127; value = Math.floor(value / 128)) bytes.push((value % 128) | 128);
  return Buffer.from([...bytes, value]);
}
