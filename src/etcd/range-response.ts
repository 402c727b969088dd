// Reads etcdserverpb.RangeResponse (go.etcd.io/etcd/api, etcdserverpb/rpc.proto) in place: a generated decoder copies every
// key and value, and takes most of the time of a census.
import { readKeyValue, type EtcdEntry } from "./key-value.js";
import { LENGTH_DELIMITED, ProtobufWalk, tagOf, VARINT } from "./protobuf-walk.js";

const EMPTY = Buffer.alloc(0);

const HEADER = tagOf(1, LENGTH_DELIMITED);
const ENTRY = tagOf(2, LENGTH_DELIMITED);
const MORE = tagOf(3, VARINT);
const COUNT = tagOf(4, VARINT);
const HEADER_REVISION = tagOf(3, VARINT);

/** The response to a range request; keys and values are views of it. */
export class RangePage {
  readonly #message: Buffer;
  /** The number of entries. */
  readonly length: number = 0;
  /** The size of the response. */
  readonly bytes: number;
  /** The first key; empty if there are no entries. */
  readonly first: Buffer;
  readonly last: Buffer;
  readonly more: boolean = false;
  /** Keys in the range, regardless of the limit. */
  readonly count: number = 0;
  /** The store's revision when it answered. */
  readonly revision: number = 0;

  /** @throws Error if the message is truncated or malformed */
  constructor(message: Buffer) {
    this.#message = message;
    this.bytes = message.length;
    let [first, last]: (EtcdEntry | undefined)[] = [];
    let [lastStart, lastEnd] = [0, 0];
    const walk = new ProtobufWalk(message, 0, message.length);
    while (walk.at < message.length) {
      const tag = walk.varint();
      if (tag === ENTRY) {
        lastStart = walk.content();
        lastEnd = walk.at;
        if (this.length++ === 0) first = readKeyValue(message, lastStart, lastEnd);
      } else if (tag === HEADER) {
        const start = walk.content();
        this.revision = readRevision(message, start, walk.at);
      } else if (tag === MORE) this.more = walk.varint() !== 0;
      else if (tag === COUNT) this.count = walk.varint();
      else walk.skip(tag);
    }
    if (lastEnd > 0) last = readKeyValue(message, lastStart, lastEnd);
    this.first = first?.key ?? EMPTY;
    this.last = last?.key ?? EMPTY;
  }

  /** Yields the entries in the order of their keys; one at a time: a whole page of them would survive V8's collections of young garbage. */
  *entries(): Generator<EtcdEntry, void> {
    const walk = new ProtobufWalk(this.#message, 0, this.#message.length);
    while (walk.at < this.#message.length) {
      const tag = walk.varint();
      if (tag === ENTRY) {
        const start = walk.content();
        yield readKeyValue(this.#message, start, walk.at);
      } else walk.skip(tag);
    }
  }
}

function readRevision(bytes: Buffer, start: number, end: number): number {
  const walk = new ProtobufWalk(bytes, start, end);
  let revision = 0;
  while (walk.at < end) {
    const tag = walk.varint();
    if (tag === HEADER_REVISION) revision = walk.varint();
    else walk.skip(tag);
  }
  return revision;
}
