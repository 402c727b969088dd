// Attacks on gRPC's messages and on protobuf, within valid HTTP/2.

import { gzipSync } from "node:zlib";

import { callHeaders, DATA, field, frame, grpcMessage, PREFACE, varint } from "../support/http2-frames.js";
import {
  below,
  bytesOf,
  call,
  method,
  nth,
  open,
  OPENING,
  pick,
  repeat,
  type Families,
  type Random,
} from "./draw.js";

/** Returns a valid request, to be damaged. */
const wellFormed = (random: Random): Buffer =>
  call(
    random,
    grpcMessage(
      Buffer.concat([
        field(1, bytesOf(random, 64)),
        field(2, Buffer.from("uid")),
        field(3, Buffer.from("key")),
        field(4, Buffer.concat([field(1, Buffer.from("a.b")), field(2, bytesOf(random, 20))])),
      ]),
    ),
  );

export const MESSAGE_FAMILIES: Families = {
  "requests that are not ended": (random) =>
    Buffer.concat([
      OPENING,
      repeat(below(random, 300), (index) =>
        Buffer.concat([
          open(nth(index), callHeaders(method(random))),
          frame(DATA, 0, nth(index), grpcMessage(bytesOf(random, 100), 0, 30_000)),
        ]),
      ),
    ]),
  "a message of another length": (random) =>
    call(random, grpcMessage(bytesOf(random, 300), 0, below(random, 2 ** 32))),
  "a message that is cut off": (random) => {
    const whole = grpcMessage(field(1, bytesOf(random, 200)));
    return call(random, whole.subarray(0, below(random, whole.length)));
  },
  "a message that is compressed": (random) => {
    const message = random() < 0.5 ? gzipSync(Buffer.alloc(below(random, 20_000_000))) : bytesOf(random, 500);
    const encoding = pick(random, ["gzip", "deflate", "identity", "br", "x"]);
    return call(random, grpcMessage(message, below(random, 4)), { "grpc-encoding": encoding });
  },
  "several messages": (random) =>
    call(
      random,
      repeat(below(random, 50), () => grpcMessage(field(1, bytesOf(random, 100)))),
    ),
  "protobuf: random bytes": (random) => call(random, grpcMessage(bytesOf(random, 2_000))),
  "protobuf: huge numbers": (random) =>
    call(
      random,
      grpcMessage(
        Buffer.concat([
          varint(BigInt(below(random, 2 ** 32)) << BigInt(below(random, 32))),
          Buffer.alloc(below(random, 12), 0xff),
          field(1 + below(random, 5), bytesOf(random, 20), 2n ** BigInt(below(random, 64)) - 1n),
        ]),
      ),
    ),
  "protobuf: other wire types": (random) =>
    call(
      random,
      grpcMessage(
        repeat(1 + below(random, 20), () =>
          Buffer.concat([varint(BigInt((below(random, 6) << 3) | below(random, 8))), bytesOf(random, 12)]),
        ),
      ),
    ),
  "protobuf: nested deeply": (random) => {
    const depth = below(random, 20_000);
    const start = Buffer.alloc(depth, (9 << 3) | 3);
    return call(
      random,
      grpcMessage(Buffer.concat([start, Buffer.alloc(below(random, depth), (9 << 3) | 4)])),
    );
  },
  "protobuf: many annotations": (random) =>
    call(
      random,
      grpcMessage(
        repeat(below(random, 2_000), () => {
          const name = pick(random, ["a.b", "__proto__", "constructor", "toString", "\xff\xfe", ""]);
          return field(
            4,
            Buffer.concat([field(1, Buffer.from(name, "latin1")), field(2, bytesOf(random, 8))]),
          );
        }),
      ),
    ),
  "a good request with changed bytes": (random) => {
    const bytes = wellFormed(random);
    for (let left = 1 + below(random, 5); left > 0; left--) {
      bytes[PREFACE.length + below(random, bytes.length - PREFACE.length)] = below(random, 256);
    }
    return bytes;
  },
  // At least one byte: a connection that sends nothing gets no answer.
  "a good request that is cut off": (random) => {
    const bytes = wellFormed(random);
    return bytes.subarray(0, 1 + below(random, bytes.length - 1));
  },
};
