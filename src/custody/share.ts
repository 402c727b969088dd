// One share of the key that seals a PIN, as a custodian holds it. Version 1 is bech32m with the prefix "kmsshare" over
// 42 bytes: version (1), set (4), epoch (2), threshold (1), index (1), the point of Shamir's polynomial (32 + 1). Bech32m
// rather than words: the text is half as long, needs no word list, and fits a small QR code. All numbers are big-endian.
import { createHash } from "node:crypto";
import { KmsError } from "../errors.js";
import { decodeBech32m, encodeBech32m, encodedLength } from "./bech32m.js";

/** Most shares of a set: few enough for a ceremony, and for their digests in the sealed PIN. */
export const MAX_SHARES = 16;
export const MIN_THRESHOLD = 2;
export const MAX_EPOCH = 0xffff;
/** Length in bytes of a set's id, and of a point: the key's length and the coordinate. */
export const SET_BYTES = 4;
export const POINT_BYTES = 33;

const VERSION = 1;
const PREFIX = "kmsshare";
const HEAD_BYTES = 1 + SET_BYTES + 2 + 1 + 1;
const PACKED_BYTES = HEAD_BYTES + POINT_BYTES;
const BODY_LENGTH = encodedLength(PACKED_BYTES);
const TEXT_LENGTH = PREFIX.length + 1 + BODY_LENGTH;
/** Characters in a printed group. */
const GROUP = 4;
/** Longest input in bytes, including the characters that are ignored. */
export const MAX_INPUT_BYTES = 3 * TEXT_LENGTH;

/** Which share it is. Nothing here is secret. */
export interface ShareName {
  /** Identifies all shares of one PIN, over all epochs; hexadecimal. */
  readonly set: string;
  /** 1 for the first split; each renewal adds 1. */
  readonly epoch: number;
  readonly threshold: number;
  /** Counts from 1. */
  readonly index: number;
}

/** A share. Its owner zeroes `point`. */
export interface Share extends ShareName {
  readonly point: Uint8Array;
}

/** Returns the share as ASCII text in lower case, without spaces, for the caller to zero. */
export function encodeShare(share: Share): Buffer {
  const packed = packedOf(share);
  const text = encodeBech32m(PREFIX, packed);
  packed.fill(0);
  return text;
}

/** Returns the text in groups, as it is printed: the prefix, then four characters in each group. */
export function groupText(text: Buffer): string[] {
  const body = text.toString("latin1", PREFIX.length + 1);
  return [
    text.toString("latin1", 0, PREFIX.length + 1),
    ...(body.match(new RegExp(`.{1,${GROUP}}`, "g")) ?? []),
  ];
}

/**
 * Reads a share that a person typed or a QR code contained: white space and hyphens are ignored; the letters are all in
 * lower case or all in upper case. Zeroes `input`.
 * @throws KmsError INPUT_INVALID that says what is wrong and, if it can be computed, where; never a part of the text
 */
export function parseShare(input: Buffer): Share {
  const text = Buffer.alloc(TEXT_LENGTH + 1);
  try {
    const length = normalize(input, text);
    if (text.toString("latin1", 0, PREFIX.length + 1) !== `${PREFIX}1`) {
      throw invalid(`it does not begin with ${PREFIX}1`);
    }
    if (length !== TEXT_LENGTH) {
      const counted = length > TEXT_LENGTH ? "more" : `${length}`;
      throw invalid(`it has ${counted} characters instead of ${TEXT_LENGTH}; compare it group by group`);
    }
    const decoded = decodeBech32m(PREFIX, text.subarray(PREFIX.length + 1, TEXT_LENGTH));
    if (!decoded.ok) throw invalid(describeWrong(decoded.is, decoded.at));
    return unpack(decoded.data);
  } finally {
    text.fill(0);
    input.fill(0);
  }
}

/**
 * Returns a digest that identifies a share without revealing it: a point has 256 random bits. The sealed PIN lists the
 * digests, so that a share that was not issued is refused by itself, before it spoils the other shares.
 */
export function digestShare(share: Share): string {
  const packed = packedOf(share);
  const digest = createHash("sha256").update("kms-pkcs11 share digest\0").update(packed).digest("hex");
  packed.fill(0);
  return digest;
}

function packedOf({ set, epoch, threshold, index, point }: Share): Buffer {
  const packed = Buffer.alloc(PACKED_BYTES);
  packed.writeUInt8(VERSION, 0);
  packed.write(set, 1, SET_BYTES, "hex");
  packed.writeUInt16BE(epoch, 1 + SET_BYTES);
  packed.writeUInt8(threshold, 3 + SET_BYTES);
  packed.writeUInt8(index, 4 + SET_BYTES);
  packed.set(point, HEAD_BYTES);
  return packed;
}

/** Takes ownership of `packed`. */
function unpack(packed: Buffer): Share {
  const version = packed.readUInt8(0);
  const share = {
    set: packed.toString("hex", 1, 1 + SET_BYTES),
    epoch: packed.readUInt16BE(1 + SET_BYTES),
    threshold: packed.readUInt8(3 + SET_BYTES),
    index: packed.readUInt8(4 + SET_BYTES),
    point: packed.subarray(HEAD_BYTES),
  };
  const { epoch, threshold, index, point } = share;
  const isPossible =
    epoch >= 1 &&
    threshold >= MIN_THRESHOLD &&
    threshold <= MAX_SHARES &&
    index >= 1 &&
    index <= MAX_SHARES &&
    point.at(-1) !== 0;
  if (version === VERSION && isPossible) return share;
  packed.fill(0);
  if (version !== VERSION) throw invalid(`it has format version ${version}; this release reads ${VERSION}`);
  throw invalid("its checksum is right, but no such share exists");
}

/** Copies the characters in lower case to `text`, which holds one more than a share; returns their number. */
function normalize(input: Buffer, text: Buffer): number {
  let length = 0;
  const cases = { lower: false, upper: false };
  for (const byte of input) {
    if (byte === 0x20 || byte === 0x2d || (byte >= 0x09 && byte <= 0x0d)) continue;
    if (byte >= 0x41 && byte <= 0x5a) cases.upper = true;
    if (byte >= 0x61 && byte <= 0x7a) cases.lower = true;
    if (length < text.length) text[length++] = byte >= 0x41 && byte <= 0x5a ? byte + 0x20 : byte;
  }
  if (cases.lower && cases.upper) throw invalid("it mixes upper and lower case; type it in one of them");
  return length;
}

function describeWrong(is: "alphabet" | "checksum", at: readonly number[]): string {
  const groups = [...new Set(at.map((position) => Math.floor(position / GROUP) + 1))];
  const where = `group${groups.length > 1 ? "s" : ""} ${groups.join(" and ")} after ${PREFIX}1`;
  if (is === "alphabet") return `a character in ${where} never occurs in a share (1, b, i and o do not)`;
  if (groups.length === 0) return "more than two characters are wrong; compare it group by group";
  return `a character is wrong, probably in ${where}`;
}

function invalid(problem: string): KmsError {
  return new KmsError("INPUT_INVALID", `this share cannot be read: ${problem}`);
}
