// Walks a protobuf message in place, without a schema: the caller compares tags and takes the fields it needs as numbers
// or as views. Knows no message; see https://protobuf.dev/programming-guides/encoding/.

/** Wire types; a field's tag is its number shifted left by three, with the wire type. */
export const VARINT = 0;
export const LENGTH_DELIMITED = 2;
const FIXED64 = 1;
const FIXED32 = 5;

/** Returns the tag of a field. */
export function tagOf(field: number, wireType: number): number {
  return (field << 3) | wireType;
}

/** All methods throw a plain Error if the message is truncated or malformed. */
export class ProtobufWalk {
  readonly bytes: Buffer;
  readonly end: number;
  /** The offset of the next byte. */
  at: number;

  /** Walks the message in `bytes` from `start` to `end`. */
  constructor(bytes: Buffer, start: number, end: number) {
    this.bytes = bytes;
    this.at = start;
    this.end = end;
  }

  /** Reads an unsigned integer, such as a tag. */
  varint(): number {
    let value = 0;
    for (let factor = 1; factor <= 2 ** 63; factor *= 128) {
      if (this.at >= this.end) throw new Error("truncated protobuf");
      const byte = this.bytes[this.at++] ?? 0;
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) {
        if (value > Number.MAX_SAFE_INTEGER) throw new Error("an integer is too large");
        return value;
      }
    }
    throw new Error("malformed protobuf");
  }

  /** Reads an unsigned integer of up to 64 bits, such as an id. */
  bigVarint(): bigint {
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      if (this.at >= this.end) throw new Error("truncated protobuf");
      const byte = this.bytes[this.at++] ?? 0;
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return BigInt.asUintN(64, value);
    }
    throw new Error("malformed protobuf");
  }

  /** Reads the length of a length-delimited field and moves past its content. Returns where the content starts. */
  content(): number {
    const length = this.varint();
    const start = this.at;
    if (length > this.end - start) throw new Error("truncated protobuf");
    this.at = start + length;
    return start;
  }

  /** Moves past a field that the caller does not need. */
  skip(tag: number): void {
    if (tag >>> 3 === 0) throw new Error("field number 0");
    const wireType = tag & 7;
    if (wireType === LENGTH_DELIMITED) this.content();
    else if (wireType === VARINT) this.#skipVarint();
    else if (wireType === FIXED64) this.at += 8;
    else if (wireType === FIXED32) this.at += 4;
    else throw new Error(`unknown wire type ${wireType}`);
    if (this.at > this.end) throw new Error("truncated protobuf");
  }

  /** An integer of any size, such as the id of a lease. */
  #skipVarint(): void {
    const most = Math.min(this.end, this.at + 10);
    while (this.at < most) if ((this.bytes[this.at++] ?? 0) < 0x80) return;
    throw new Error("malformed protobuf");
  }
}
