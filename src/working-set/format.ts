// The working set as bytes: what kube-apiserver sends to have its seeds decrypted. Nothing in it is secret; etcd holds
// the same in clear. The format is frozen:
//   1 byte    version, 1
//   entries   key_id, ciphertext (each: length as u16, bytes), number of annotations as u8, then name and value of each
//   32 bytes  SHA-256 of everything before
// Numbers are big-endian. The digest detects damage. It authenticates nothing: the HSM does that for each ciphertext.
import { createHash } from "node:crypto";
import type { DecryptQuestion } from "../provider/kms.js";

export const VERSION = 1;
/** Largest number of entries, and of bytes including version and digest. */
export const MAX_ENTRIES = 10_000;
export const MAX_BYTES = 4 * 1024 * 1024;

const DIGEST_BYTES = 32;
const MAX_FIELD = 0xffff;
const MAX_ANNOTATIONS = 0xff;

/** Encodes the first questions, as many as the limits permit. Returns the bytes and the number of entries. */
export function encodeWorkingSet(questions: Iterable<DecryptQuestion>): { bytes: Buffer; entries: number } {
  const parts: Buffer[] = [Buffer.of(VERSION)];
  let length = 1 + DIGEST_BYTES;
  let entries = 0;
  for (const question of questions) {
    const entry = encodeEntry(question);
    if (entry === undefined) continue;
    if (entries === MAX_ENTRIES || length + entry.length > MAX_BYTES) break;
    parts.push(entry);
    length += entry.length;
    entries++;
  }
  const content = Buffer.concat(parts);
  return { bytes: Buffer.concat([content, digestOf(content)]), entries };
}

/** Returns the questions, in the order in which they were encoded. @throws Error that says what is wrong */
export function decodeWorkingSet(bytes: Buffer): DecryptQuestion[] {
  if (bytes.length < 1 + DIGEST_BYTES) throw new Error("is incomplete");
  const content = bytes.subarray(0, -DIGEST_BYTES);
  if (bytes[0] !== VERSION) {
    throw new Error(`has format ${String(bytes[0])}, which this release does not read`);
  }
  if (!digestOf(content).equals(bytes.subarray(-DIGEST_BYTES))) throw new Error("is damaged");
  const reader = new Reader(content.subarray(1));
  const questions: DecryptQuestion[] = [];
  while (!reader.isAtEnd) {
    if (questions.length === MAX_ENTRIES) throw new Error(`has more than ${MAX_ENTRIES} entries`);
    questions.push(readEntry(reader));
  }
  return questions;
}

/** Returns undefined for what the format cannot hold; no request that the plugin accepts is that long. */
function encodeEntry({ keyId, ciphertext, annotations }: DecryptQuestion): Buffer | undefined {
  const named = Object.entries(annotations);
  const fields = [
    Buffer.from(keyId),
    ciphertext,
    ...named.flatMap(([name, value]) => [Buffer.from(name), value]),
  ];
  if (named.length > MAX_ANNOTATIONS || fields.some((field) => field.length > MAX_FIELD)) return undefined;
  const [first, second, ...others] = fields.map((field) => {
    const length = Buffer.alloc(2);
    length.writeUInt16BE(field.length);
    return Buffer.concat([length, field]);
  });
  return Buffer.concat([
    first ?? Buffer.alloc(0),
    second ?? Buffer.alloc(0),
    Buffer.of(named.length),
    ...others,
  ]);
}

function readEntry(reader: Reader): DecryptQuestion {
  const keyId = reader.field().toString();
  const ciphertext = reader.field();
  const count = reader.take(1).readUInt8();
  const named = Array.from({ length: count }, () => [reader.field().toString(), reader.field()] as const);
  return { keyId, ciphertext, annotations: Object.fromEntries(named) };
}

function digestOf(content: Buffer): Buffer {
  return createHash("sha256").update(content).digest();
}

class Reader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get isAtEnd(): boolean {
    return this.#at === this.#bytes.length;
  }

  take(length: number): Buffer {
    const end = this.#at + length;
    if (end > this.#bytes.length) throw new Error("is damaged");
    const taken = this.#bytes.subarray(this.#at, end);
    this.#at = end;
    return taken;
  }

  field(): Buffer {
    return this.take(this.take(2).readUInt16BE());
  }
}
