// The wire between the plugin and its token host: length-framed requests and replies over one socketpair a
// lane. All integers big-endian. Nothing else connects the two programs.
//
//   frame = u32 length of what follows | u32 request id | u8 kind | body
//
// `kind` is an Op in a request and a ReplyKind in a reply. Encrypt and Decrypt carry bytes; every other
// body is JSON, after which a Login carries the PIN as the frame's last bytes.
import type { ErrorCode } from "../errors.js";
import type { FaultClass, PinVerdict } from "./fault.js";
import type { MechanismChoice } from "./mechanisms.js";
import type { CryptRequest, KekRecord, PlaintextCheck, TokenSelector } from "./port.js";
import type { Deadline } from "./wire-deadline.js";

export const Op = {
  open: 1,
  login: 2,
  readKeks: 3,
  encrypt: 4,
  decrypt: 5,
  probe: 6,
  generate: 7,
  destroy: 8,
  relabel: 9,
  close: 10,
  describe: 11,
} as const;
export type Op = (typeof Op)[keyof typeof Op];

/** `repeated`: succeeded on the second try, after the token had altered the first result. */
export const ReplyKind = { done: 0, failed: 1, repeated: 2 } as const;

export const FRAME_HEADER_BYTES = 9;
/** A frame longer than this is a defect of the peer, not a request. */
export const MAX_FRAME_BYTES = 1 << 20;

export interface OpenRequest {
  readonly modulePath: string;
  readonly moduleParameters?: string;
  readonly token: TokenSelector;
  /** The KEK's name: the CKA_LABEL, or the part of it before "@". */
  readonly objectName: string;
  /** Only the key with this CKA_ID (hex), if the URI names one. */
  readonly ckaId?: string;
  /** The slot that another lane of the same token host has found; it is logged in already. */
  readonly slotId?: number;
}

/** A reading of the keyring is asked for in slices, so that requests are served in between. */
export interface ReadRequest {
  /** Whether to go on with the reading that the last request has begun; else a new one begins. */
  readonly goesOn: boolean;
}

export interface ReadingProgress {
  /** Secret keys that have been dealt with, of those that a search of the token has shown. */
  readonly seen: number;
  readonly objects: number;
}

/** What one request has come to: how far the reading is, or all that it has found. */
export type ReadSlice = ({ readonly done: false } & ReadingProgress) | ({ readonly done: true } & TokenKeys);

export interface TokenKeys {
  readonly keks: readonly KekRecord[];
  /** Secret keys on the token, those of other applications included. */
  readonly objects: number;
  /** Objects that could not be read, whose they may be. */
  readonly unreadable: number;
  /** Why the first of them could not; empty when all could. */
  readonly unreadableWhy: string;
}

export interface ProbeRequest {
  readonly keyId: string;
  readonly choice: MechanismChoice | "auto";
}

export interface DestroyRequest {
  /** The key_id and its aliases: another token may name the value by another of them. */
  readonly keyIds: readonly string[];
  /** No C_DestroyObject is begun later. */
  readonly notAfter?: Deadline;
}

export interface DestroyReply {
  /** Objects that were found and destroyed. */
  readonly objects: number;
}

export interface RelabelRequest {
  readonly keyId: string;
  readonly label: string;
}

export interface WireFailure {
  readonly code: ErrorCode;
  readonly message: string;
  /** What the plugin has to do about it. */
  readonly fault: FaultClass;
  /** The CK_RV, if a call returned one. */
  readonly rv?: number;
  /** The CK_RV stands in no row of the CKR table. */
  readonly unknownRv?: boolean;
  /** Of a failed login: the PIN is wrong, nothing was said against it, or nobody can tell. */
  readonly pin?: PinVerdict;
}

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
export function encodeCryptFrame(id: number, op: Op, request: CryptRequest): Buffer {
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

/** Returns views into `body`; throws a RangeError on a body that is too short for its own lengths. */
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

/** body = u32 length of the JSON | JSON | secret */
export function encodeJsonBody(value: unknown, secret?: Uint8Array): Buffer {
  const json = Buffer.from(JSON.stringify(value));
  const body = Buffer.allocUnsafe(4 + json.length + (secret?.length ?? 0));
  body.writeUInt32BE(json.length, 0);
  json.copy(body, 4);
  if (secret !== undefined) body.set(secret, 4 + json.length);
  return body;
}

export function decodeJsonBody(body: Buffer): { value: unknown; secret: Buffer } {
  const end = 4 + body.readUInt32BE(0);
  if (end > body.length) throw new RangeError("JSON body shorter than its length");
  return { value: JSON.parse(body.toString("utf8", 4, end)) as unknown, secret: body.subarray(end) };
}

/** Cuts a byte stream into frames. Bodies are views: use or copy them before the next `push`. */
export class FrameReader {
  #rest: Buffer = Buffer.alloc(0);

  /** @throws RangeError when the peer announces a frame over MAX_FRAME_BYTES or under a header's length */
  push(chunk: Buffer, onFrame: (id: number, kind: number, body: Buffer) => void): void {
    const bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
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

  /** Keeps a copy of what is not yet a whole frame and wipes what it came in. */
  #keep(bytes: Buffer, from: number): void {
    this.#rest.fill(0);
    this.#rest = from === bytes.length ? Buffer.alloc(0) : Buffer.from(bytes.subarray(from));
    bytes.fill(0);
  }
}
