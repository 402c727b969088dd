// The wire between the plugin and its token host: length-framed requests and replies over one socketpair for each lane. All
// integers are big-endian. Nothing else connects the two programs. What the calls mean is in wire-calls.ts.
//
//   frame = u32 length of what follows | u32 request id | u8 kind | body
//
// `kind` is an Op in a request and a ReplyKind in a reply. Encrypt and Decrypt carry bytes; every other
// body is JSON, after which a Login or SetPIN carries PINs as the frame's last bytes. wire-replies.ts checks and decodes replies.
import type { CryptRequest, PlaintextCheck } from "./port.js";
import type { ControlOp, ControlReply, ControlRequest, CryptOp, WireFailure } from "./wire-calls.js";

/** `repeated`: succeeded on the second attempt, after the token had altered the first result. */
export const ReplyKind = { done: 0, failed: 1, repeated: 2 } as const;

/** Length of a frame's header: length, request id and kind. */
export const FRAME_HEADER_BYTES = 9;
/** Maximum length of a frame in bytes; a longer one is a defect of the peer. */
export const MAX_FRAME_BYTES = 1 << 20;

/** The two highest bits of a crypt body's first byte. */
const CHECK_BITS = { digest: 0x40, twice: 0x80 } as const;
const MECHANISM_BITS = 0x3f;

/** Returns a whole frame around `body`. */
export function encodeFrame(id: number, kind: number, body: Uint8Array): Buffer {
  const frame = Buffer.allocUnsafe(FRAME_HEADER_BYTES + body.length);
  frame.writeUInt32BE(FRAME_HEADER_BYTES - 4 + body.length, 0);
  frame.writeUInt32BE(id, 4);
  frame[8] = kind;
  frame.set(body, FRAME_HEADER_BYTES);
  return frame;
}

/**
 * Returns a whole Encrypt or Decrypt frame, built without a copy in between.
 * body = u8 check and mechanism | u8 key_id length | key_id | u16 aad length | aad | data
 */
export function encodeCryptFrame(id: number, op: CryptOp, request: CryptRequest): Buffer {
  const keyIdBytes = Buffer.byteLength(request.keyId);
  const length = FRAME_HEADER_BYTES + 4 + keyIdBytes + request.aad.length + request.data.length;
  const frame = Buffer.allocUnsafe(length);
  frame.writeUInt32BE(length - 4, 0);
  frame.writeUInt32BE(id, 4);
  frame[8] = op;
  frame[9] = request.mechanism | (request.check === undefined ? 0 : CHECK_BITS[request.check]);
  frame[10] = keyIdBytes;
  let at = 11 + frame.write(request.keyId, 11);
  at = frame.writeUInt16BE(request.aad.length, at);
  frame.set(request.aad, at);
  frame.set(request.data, at + request.aad.length);
  return frame;
}

/** Returns views into `body`. @throws RangeError if the body is shorter than its lengths say */
export function decodeCryptBody(body: Buffer): CryptRequest {
  const first = body.readUInt8(0);
  const keyIdBytes = body.readUInt8(1);
  const aadAt = 2 + keyIdBytes + 2;
  const aadBytes = body.readUInt16BE(aadAt - 2);
  if (aadAt + aadBytes > body.length) throw new RangeError("crypt body shorter than its lengths");
  const check = checkOf(first);
  return {
    mechanism: first & MECHANISM_BITS,
    ...(check !== undefined && { check }),
    keyId: body.toString("latin1", 2, 2 + keyIdBytes),
    aad: body.subarray(aadAt, aadAt + aadBytes),
    data: body.subarray(aadAt + aadBytes),
  };
}

function checkOf(first: number): PlaintextCheck | undefined {
  if ((first & CHECK_BITS.digest) !== 0) return "digest";
  return (first & CHECK_BITS.twice) === 0 ? undefined : "twice";
}

/** Returns a whole frame of a control request. @param secret not part of the JSON: a PIN */
export function encodeControlFrame<O extends ControlOp>(
  id: number,
  op: O,
  request: ControlRequest<O>,
  secret?: Uint8Array,
): Buffer {
  const body = encodeJsonBody(request, secret);
  const frame = encodeFrame(id, op, body);
  body.fill(0);
  return frame;
}

/**
 * Returns a control request and its secret, a view into `body` that the caller wipes.
 * @throws RangeError or SyntaxError on a malformed body
 */
export function decodeControlRequest<O extends ControlOp>(
  _op: O,
  body: Buffer,
): { request: ControlRequest<O>; secret: Buffer } {
  const { value, secret } = decodeJsonBody(body);
  return { request: value as ControlRequest<O>, secret };
}

/** Returns the body of a reply. */
export function encodeControlReply<O extends ControlOp>(_op: O, reply: ControlReply<O>): Buffer {
  return encodeJsonBody(reply);
}

/** Returns the body of a failed reply. */
export function encodeFailure(failure: WireFailure): Buffer {
  return encodeJsonBody(failure);
}

/** body = u32 length of the JSON | JSON | secret */
function encodeJsonBody(value: unknown, secret?: Uint8Array): Buffer {
  const json = Buffer.from(JSON.stringify(value));
  const body = Buffer.allocUnsafe(4 + json.length + (secret?.length ?? 0));
  body.writeUInt32BE(json.length, 0);
  json.copy(body, 4);
  if (secret !== undefined) body.set(secret, 4 + json.length);
  return body;
}

/** Returns the JSON of a body and what follows it, a view into `body`. @throws RangeError or SyntaxError */
export function decodeJsonBody(body: Buffer): { value: unknown; secret: Buffer } {
  const end = 4 + body.readUInt32BE(0);
  if (end > body.length) throw new RangeError("JSON body shorter than its length");
  return { value: JSON.parse(body.toString("utf8", 4, end)) as unknown, secret: body.subarray(end) };
}

/** Splits a byte stream into frames. Bodies are views: use or copy them before the next `push`. */
export class FrameReader {
  #partial: Buffer = Buffer.alloc(0);

  /**
   * Adds received bytes and calls `onFrame` for each complete frame.
   * @throws RangeError on a frame longer than MAX_FRAME_BYTES or shorter than a header
   */
  push(chunk: Buffer, onFrame: (id: number, kind: number, body: Buffer) => void): void {
    const bytes = this.#partial.length === 0 ? chunk : Buffer.concat([this.#partial, chunk]);
    let at = 0;
    while (bytes.length - at >= FRAME_HEADER_BYTES) {
      const length = bytes.readUInt32BE(at);
      if (length < FRAME_HEADER_BYTES - 4 || length > MAX_FRAME_BYTES) {
        throw new RangeError(`frame of ${length} bytes`);
      }
      const end = at + 4 + length;
      if (end > bytes.length) break;
      onFrame(
        bytes.readUInt32BE(at + 4),
        bytes.readUInt8(at + 8),
        bytes.subarray(at + FRAME_HEADER_BYTES, end),
      );
      at = end;
    }
    this.#keep(bytes, at);
    chunk.fill(0);
  }

  /** Keeps a copy of an incomplete frame and wipes the bytes that it was read from. */
  #keep(bytes: Buffer, from: number): void {
    this.#partial.fill(0);
    this.#partial = from === bytes.length ? Buffer.alloc(0) : Buffer.from(bytes.subarray(from));
    bytes.fill(0);
  }
}
