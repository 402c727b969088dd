// Reads mvccpb.KeyValue (go.etcd.io/etcd/api, mvccpb/kv.proto) in place: the record in which etcd stores one revision of
// a key, and which it returns for a range.
import { LENGTH_DELIMITED, ProtobufWalk, tagOf, VARINT } from "./protobuf-walk.js";

export interface EtcdEntry {
  /** A view of the record, like `value`. */
  readonly key: Buffer;
  readonly value: Buffer;
  readonly createRevision: number;
  readonly modRevision: number;
}

const KEY = tagOf(1, LENGTH_DELIMITED);
const CREATE_REVISION = tagOf(2, VARINT);
const MOD_REVISION = tagOf(3, VARINT);
const VALUE = tagOf(5, LENGTH_DELIMITED);

/** Returns the record in `bytes` from `start` to `end`. @throws Error if it is truncated or malformed */
export function readKeyValue(bytes: Buffer, start: number, end: number): EtcdEntry {
  const walk = new ProtobufWalk(bytes, start, end);
  let [keyStart, keyEnd, valueStart, valueEnd, createRevision, modRevision] = [
    start,
    start,
    start,
    start,
    0,
    0,
  ];
  while (walk.at < end) {
    const tag = walk.varint();
    if (tag === KEY) {
      keyStart = walk.content();
      keyEnd = walk.at;
    } else if (tag === VALUE) {
      valueStart = walk.content();
      valueEnd = walk.at;
    } else if (tag === CREATE_REVISION) createRevision = walk.varint();
    else if (tag === MOD_REVISION) modRevision = walk.varint();
    else walk.skip(tag);
  }
  return {
    key: bytes.subarray(keyStart, keyEnd),
    value: bytes.subarray(valueStart, valueEnd),
    createRevision,
    modRevision,
  };
}
