// Encodes etcdserverpb.RangeResponse as etcd does.

import protobuf from "protobufjs/minimal.js";

/** Returns a response at revision 7 with these keys of a range that has `count`, all with one value. */
export function rangeResponse(keys: readonly Buffer[], count: number, value: Buffer): Buffer {
  const response = new protobuf.Writer();
  response.uint32(0x0a).fork().uint32(0x18).uint32(7).ldelim();
  for (const key of keys) {
    response.uint32(0x12).fork().uint32(0x0a).bytes(key).uint32(0x2a).bytes(value).ldelim();
  }
  if (count > keys.length) response.uint32(0x18).bool(true);
  return Buffer.from(response.uint32(0x20).uint32(count).finish());
}
