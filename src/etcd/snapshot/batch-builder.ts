// Puts the entries of a snapshot into batches, in the form in which etcd answers a range: the inverse of range-response.ts.
import type { EtcdEntry } from "../key-value.js";
import type { Batch } from "../store.js";

const BATCH_BYTES = 1024 * 1024;
/** Tags, lengths and revisions of an entry, at most. */
const OVERHEAD_BYTES = 64;

/** Field numbers and wire types: kvs in RangeResponse; key, create_revision, mod_revision and value in KeyValue. */
const ENTRY = 0x12;
const [KEY, CREATE_REVISION, MOD_REVISION, VALUE] = [0x0a, 0x10, 0x18, 0x2a];

export class BatchBuilder {
  #bytes = Buffer.alloc(0);
  #at = 0;
  #objects = 0;

  get isEmpty(): boolean {
    return this.#objects === 0;
  }

  /** Returns whether the batch must be taken before this entry is added. */
  isFullFor({ key, value }: EtcdEntry): boolean {
    return !this.isEmpty && this.#at + key.length + value.length + OVERHEAD_BYTES > this.#bytes.length;
  }

  /** Adds an entry, for which the batch must not be full. */
  add({ key, value, createRevision, modRevision }: EtcdEntry): void {
    if (this.isEmpty) {
      this.#bytes = Buffer.allocUnsafeSlow(Math.max(BATCH_BYTES, key.length + value.length + OVERHEAD_BYTES));
    }
    const revisions = 2 + varintBytes(createRevision) + varintBytes(modRevision);
    this.#varint(ENTRY);
    this.#varint(2 + lengthBytes(key) + lengthBytes(value) + revisions);
    this.#field(KEY, key);
    this.#varint(CREATE_REVISION);
    this.#varint(createRevision);
    this.#varint(MOD_REVISION);
    this.#varint(modRevision);
    this.#field(VALUE, value);
    this.#objects++;
  }

  /** Returns the batch and begins another. */
  take(): Batch {
    const batch = { bytes: this.#bytes.subarray(0, this.#at), objects: this.#objects };
    [this.#at, this.#objects] = [0, 0];
    return batch;
  }

  #field(tag: number, content: Buffer): void {
    this.#varint(tag);
    this.#varint(content.length);
    this.#at += content.copy(this.#bytes, this.#at);
  }

  #varint(value: number): void {
    let rest = value;
    for (; rest >= 0x80; rest = Math.floor(rest / 128)) this.#bytes[this.#at++] = (rest % 128) | 0x80;
    this.#bytes[this.#at++] = rest;
  }
}

function varintBytes(value: number): number {
  let bytes = 1;
  for (let rest = value; rest >= 0x80; rest = Math.floor(rest / 128)) bytes++;
  return bytes;
}

function lengthBytes(content: Buffer): number {
  return varintBytes(content.length) + content.length;
}
