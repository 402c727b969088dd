// Reads the data types of the SSH protocol (RFC 4251, section 5) from bytes that anybody may have written: every length
// is checked, and numbers have one encoding only. Knows nothing of keys and signatures.
import { refused } from "./refused.js";

/** Reads one structure from its beginning to its end. */
export class WireReader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  /** Returns the next `length` bytes. @throws KmsError NOT_APPROVED if there are fewer */
  bytes(length: number): Buffer {
    if (length > this.#bytes.length - this.#at) throw refused("it is truncated");
    this.#at += length;
    return this.#bytes.subarray(this.#at - length, this.#at);
  }

  byte(): number {
    return this.bytes(1).readUInt8();
  }

  uint32(): number {
    return this.bytes(4).readUInt32BE();
  }

  /** Returns the content of a string, which may be any bytes. */
  string(): Buffer {
    return this.bytes(this.uint32());
  }

  /** Returns a string of printable ASCII characters. @throws KmsError NOT_APPROVED for others */
  text(): string {
    const text = this.string().toString("latin1");
    if (!/^[\x20-\x7e]*$/.test(text)) {
      throw refused("a name in it contains characters other than printable ASCII");
    }
    return text;
  }

  /** Returns the magnitude of a positive mpint without leading zeros. @throws KmsError NOT_APPROVED for other encodings */
  positive(): Buffer {
    const bytes = this.string();
    const [first = 0x80, second = 0] = bytes;
    const isPadded = first === 0;
    if (first >= 0x80 || (isPadded && second < 0x80)) {
      throw refused("a number in it is not encoded as required");
    }
    return isPadded ? bytes.subarray(1) : bytes;
  }

  /** @throws KmsError NOT_APPROVED if bytes remain */
  end(): void {
    if (this.#at !== this.#bytes.length) throw refused("bytes follow its end");
  }
}

/** Returns a string in the encoding of SSH. */
export function wireString(content: Uint8Array | string): Buffer {
  const bytes = Buffer.from(content);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes.length);
  return Buffer.concat([length, bytes]);
}
