// The service of KMS v2 (k8s.io/kms, proto/kms/v2/api.proto) and its messages as bytes. protobufjs reads and writes the fields.
// The fields are listed here: reading the proto file and generating code for it would take an eighth of the plugin's start.
// A test compares this table with the file.
import type { MethodDefinition, ServiceDefinition } from "@grpc/grpc-js";
import protobuf from "protobufjs/minimal.js";

/** The kinds of fields; a map has names as keys and bytes as values. */
type Kind = "string" | "bytes" | "map";
type Message = Record<string, unknown>;
/** Fields with the numbers 1, 2 and so on. */
type Fields = readonly (readonly [name: string, kind: Kind])[];

const SERVICE = "/v2.KeyManagementService";
const MESSAGES: Readonly<Record<string, Fields>> = {
  StatusRequest: [],
  StatusResponse: [
    ["version", "string"],
    ["healthz", "string"],
    ["key_id", "string"],
  ],
  DecryptRequest: [
    ["ciphertext", "bytes"],
    ["uid", "string"],
    ["key_id", "string"],
    ["annotations", "map"],
  ],
  DecryptResponse: [["plaintext", "bytes"]],
  EncryptRequest: [
    ["plaintext", "bytes"],
    ["uid", "string"],
  ],
  EncryptResponse: [
    ["ciphertext", "bytes"],
    ["key_id", "string"],
    ["annotations", "map"],
  ],
};
/** A map's entry is a message of its own. */
const ENTRY: Fields = [
  ["key", "string"],
  ["value", "bytes"],
];
const NOTHING = Buffer.alloc(0);
/** Every field here has this wire type. */
const LENGTH_DELIMITED = 2;

/** Returns the definition of the service for a server or a client. */
export function kmsServiceDefinition(): ServiceDefinition {
  const rpcs = ["Status", "Decrypt", "Encrypt"];
  return Object.fromEntries(rpcs.map((name) => [name, rpcDefinition(name)]));
}

function rpcDefinition(name: string): MethodDefinition<Message, Message> {
  const request = MESSAGES[`${name}Request`] ?? [];
  const response = MESSAGES[`${name}Response`] ?? [];
  return {
    path: `${SERVICE}/${name}`,
    requestStream: false,
    responseStream: false,
    requestSerialize: (message) => encode(request, message),
    requestDeserialize: (bytes) => decode(request, bytes),
    responseSerialize: (message) => {
      const bytes = encode(response, message);
      // grpc-js copies the bytes as soon as it has them; they may hold a DEK seed.
      queueMicrotask(() => bytes.fill(0));
      return bytes;
    },
    responseDeserialize: (bytes) => decode(response, bytes),
  };
}

/** Returns a message as bytes, with one copy of its fields. */
function encode(fields: Fields, message: Message): Buffer {
  const { buffer, byteOffset, byteLength } = write(protobuf.Writer.create(), fields, message).finish();
  return Buffer.from(buffer, byteOffset, byteLength);
}

function write(writer: protobuf.Writer, fields: Fields, message: Message): protobuf.Writer {
  for (const [at, [name, kind]] of fields.entries()) {
    const value = message[name];
    if (value === undefined) continue;
    const tag = ((at + 1) << 3) | LENGTH_DELIMITED;
    if (kind === "string") writer.uint32(tag).string(value as string);
    else if (kind === "bytes") writer.uint32(tag).bytes(value as Uint8Array);
    else {
      for (const [key, bytes] of Object.entries(value as Message)) {
        write(writer.uint32(tag).fork(), ENTRY, { key, value: bytes }).ldelim();
      }
    }
  }
  return writer;
}

/** Returns the message, whose bytes share the memory of `bytes`. @throws Error if it is malformed */
function decode(fields: Fields, bytes: Buffer): Message {
  const reader = protobuf.Reader.create(bytes);
  return read(reader, fields, reader.len);
}

function read(reader: protobuf.Reader, fields: Fields, end: number): Message {
  if (end > reader.len) throw new RangeError("a field is longer than its message");
  const message: Message = {};
  for (const [name, kind] of fields) message[name] = emptyOf(kind);
  while (reader.pos < end) {
    const tag = reader.uint32();
    const field = fields[(tag >>> 3) - 1];
    if (field === undefined || (tag & 7) !== LENGTH_DELIMITED) {
      reader.skipType(tag & 7);
      continue;
    }
    const [name, kind] = field;
    if (kind === "string") message[name] = reader.string();
    else if (kind === "bytes") message[name] = reader.bytes();
    else addEntry(message[name] as Message, read(reader, ENTRY, reader.uint32() + reader.pos));
  }
  if (reader.pos !== end) throw new RangeError("a field is longer than its message");
  return message;
}

function emptyOf(kind: Kind): unknown {
  if (kind === "string") return "";
  return kind === "bytes" ? NOTHING : {};
}

function addEntry(map: Message, { key, value }: Message): void {
  // An assignment to this name would add no property.
  if (key === "__proto__") Object.defineProperty(map, key, { value, enumerable: true });
  else map[key as string] = value;
}
