// Reads etcdserverpb.RangeResponse (go.etcd.io/etcd/api, etcdserverpb/rpc.proto) in place: a generated decoder copies every
// key and value, and takes most of the time of a census.
import { readKeyValue, type EtcdEntry } from "./key-value.js";
import { LENGTH_DELIMITED, ProtobufWalk, tagOf, VARINT } from "./protobuf-walk.js";

const EMPTY = Buffer.alloc(0);
const SAMPLE_EVERY = 50;

const HEADER = tagOf(1, LENGTH_DELIMITED);
const ENTRY = tagOf(2, LENGTH_DELIMITED);
const MORE = tagOf(3, VARINT);
const COUNT = tagOf(4, VARINT);
const HEADER_CLUSTER = tagOf(1, VARINT);
const HEADER_REVISION = tagOf(3, VARINT);

/** The response to a range request; keys and values are views of it. */
export class RangePage {
  readonly message: Buffer;
  /** The number of entries. */
  readonly length: number = 0;
  /** The size of the response. */
  readonly bytes: number;
  /** The first key; empty if there are no entries. */
  readonly first: Buffer;
  readonly last: Buffer;
  /** Some of the keys, spread over the page. */
  readonly samples: readonly Buffer[];
  readonly more: boolean = false;
  /** Keys in the range, regardless of the limit. */
  readonly count: number = 0;
  /** The store's revision when it answered. */
  readonly revision: number = 0;
  /** The id of the cluster that answered; 0 if the response does not name one. */
  readonly clusterId: bigint = 0n;

  /** @throws Error if the message is truncated or malformed */
  constructor(message: Buffer) {
    this.message = message;
    this.bytes = message.length;
    const samples: Buffer[] = [];
    let [lastStart, lastEnd] = [0, 0];
    const walk = new ProtobufWalk(message, 0, message.length);
    while (walk.at < message.length) {
      const tag = walk.varint();
      if (tag === ENTRY) {
        lastStart = walk.content();
        lastEnd = walk.at;
        if (this.length++ % SAMPLE_EVERY === 0) samples.push(readKeyValue(message, lastStart, lastEnd).key);
      } else if (tag === HEADER) {
        const start = walk.content();
        ({ revision: this.revision, clusterId: this.clusterId } = readHeader(message, start, walk.at));
      } else if (tag === MORE) this.more = walk.varint() !== 0;
      else if (tag === COUNT) this.count = walk.varint();
      else walk.skip(tag);
    }
    this.samples = samples;
    this.first = samples[0] ?? EMPTY;
    this.last = lastEnd > 0 ? readKeyValue(message, lastStart, lastEnd).key : EMPTY;
  }

  /** Yields the entries in the order of their keys; one at a time: a whole page of them would survive V8's collections of young garbage. */
  *entries(): Generator<EtcdEntry, void> {
    const walk = new ProtobufWalk(this.message, 0, this.message.length);
    while (walk.at < this.message.length) {
      const tag = walk.varint();
      if (tag === ENTRY) {
        const start = walk.content();
        yield readKeyValue(this.message, start, walk.at);
      } else walk.skip(tag);
    }
  }
}

function readHeader(bytes: Buffer, start: number, end: number): { revision: number; clusterId: bigint } {
  const walk = new ProtobufWalk(bytes, start, end);
  let [revision, clusterId] = [0, 0n];
  while (walk.at < end) {
    const tag = walk.varint();
    if (tag === HEADER_REVISION) revision = walk.varint();
    else if (tag === HEADER_CLUSTER) clusterId = walk.bigVarint();
    else walk.skip(tag);
  }
  return { revision, clusterId };
}
