// Bytes of HTTP/2 and gRPC as a peer may send them, valid or not: nothing here checks its arguments.

export const PREFACE = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1");

export const DATA = 0x0;
export const HEADERS = 0x1;
export const PRIORITY = 0x2;
export const RST_STREAM = 0x3;
export const SETTINGS = 0x4;
export const PING = 0x6;
export const GOAWAY = 0x7;
export const WINDOW_UPDATE = 0x8;
export const CONTINUATION = 0x9;

export const END_STREAM = 0x1;
export const END_HEADERS = 0x4;

/** Returns one frame (RFC 9113 section 4.1). `length` is for a frame that declares a wrong length. */
export function frame(
  type: number,
  flags: number,
  stream: number,
  data: Uint8Array = Buffer.alloc(0),
  length = data.length,
): Buffer {
  const header = Buffer.alloc(9);
  header.writeUIntBE(length & 0xffffff, 0, 3);
  header[3] = type;
  header[4] = flags;
  header.writeUInt32BE(stream >>> 0, 5);
  return Buffer.concat([header, data]);
}

export const uint32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value >>> 0);
  return bytes;
};

/** Returns a header as a literal that is neither indexed nor compressed (HPACK, RFC 7541 section 6.2.2). */
export function header(name: string, value: string | Uint8Array): Buffer {
  const of = (text: string | Uint8Array): Buffer => {
    const bytes = Buffer.from(text);
    return Buffer.concat([hpackInteger(bytes.length), bytes]);
  };
  return Buffer.concat([Buffer.of(0), of(name), of(value)]);
}

/** Returns an integer with a prefix of 7 bits (RFC 7541 section 5.1). */
function hpackInteger(value: number): Buffer {
  if (value < 127) return Buffer.of(value);
  const bytes = [127];
  let rest = value - 127;
  while (rest >= 128) {
    bytes.push((rest & 127) | 128);
    rest >>>= 7;
  }
  return Buffer.of(...bytes, rest);
}

/** Returns the headers of a call, as grpc-go sends them. */
export function callHeaders(method: string, more: Readonly<Record<string, string>> = {}): Buffer {
  const headers = {
    ":method": "POST",
    ":scheme": "http",
    ":path": `/v2.KeyManagementService/${method}`,
    ":authority": "localhost",
    "content-type": "application/grpc",
    "user-agent": "grpc-go/1.72.2",
    te: "trailers",
    ...more,
  };
  return Buffer.concat(Object.entries(headers).map(([name, value]) => header(name, value)));
}

/** Returns a message with its prefix (gRPC over HTTP/2). `flag` declares whether it is compressed. */
export function grpcMessage(message: Uint8Array, flag = 0, length = message.length): Buffer {
  return Buffer.concat([Buffer.of(flag), uint32(length), message]);
}

/** Returns a protobuf varint of any value. */
export function varint(value: bigint): Buffer {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, value);
  for (; rest >= 128n; rest >>= 7n) bytes.push(Number(rest & 127n) | 128);
  return Buffer.of(...bytes, Number(rest));
}

/** Returns a protobuf field of wire type 2. `length` is for a field that declares a wrong length. */
export function field(number: number, data: Uint8Array, length = BigInt(data.length)): Buffer {
  return Buffer.concat([varint(BigInt(number << 3) | 2n), varint(length), data]);
}

/** The first bytes of a connection: the preface, empty settings, and the acknowledgement of the server's settings. */
export const OPENING = Buffer.concat([PREFACE, frame(SETTINGS, 0, 0), frame(SETTINGS, 1, 0)]);

/** Returns the frames of a whole call. */
export function rpc(
  method: string,
  message: Uint8Array,
  {
    stream = 1,
    more = {},
  }: { readonly stream?: number; readonly more?: Readonly<Record<string, string>> } = {},
): Buffer {
  return Buffer.concat([
    frame(HEADERS, END_HEADERS, stream, callHeaders(method, more)),
    frame(DATA, END_STREAM, stream, grpcMessage(message)),
  ]);
}
