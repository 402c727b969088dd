// Chooses how far the next range of keys extends. etcd counts all keys of a range again for every page of it, so the time
// for one long range grows with the square of the number of keys. Short ranges avoid that. The distribution of the keys is
// unknown: the keys read last show how dense they are, and of which characters they consist.

/** A key is compared as a number of so many bits, which are exact in a double. */
const NUMBER_BITS = 52;
const MAX_FACTOR = 16;

/** The bytes that keys consist of: without them, the distance between `9` and `10` would seem longer than that to `8`. */
export class Alphabet {
  readonly #bytes: readonly number[];
  /** For each byte, the number of the alphabet's bytes up to it. */
  readonly #ranks = new Uint16Array(256);
  readonly #base: number;
  /** The digits of a key's number. */
  readonly #digits: number;

  /** @param start where the prefix that the keys share ends */
  constructor(keys: readonly Buffer[], start: number) {
    const isUsed = new Uint8Array(256);
    for (const key of keys) {
      for (let at = start; at < key.length; at++) isUsed[key[at] ?? 0] = 1;
    }
    this.#bytes = [...isUsed.keys()].filter((byte) => isUsed[byte] === 1);
    let rank = 0;
    for (let byte = 0; byte < 256; byte++) {
      this.#ranks[byte] = rank += isUsed[byte] ?? 0;
    }
    // A key that ends is before every key that continues it.
    this.#base = Math.max(2, this.#bytes.length + 1);
    this.#digits = Math.floor(NUMBER_BITS / Math.log2(this.#base));
  }

  /** Returns the bytes from `start` on as a number; bytes outside the alphabet count as the one below. */
  numberAt(key: Buffer, start: number): number {
    let number = 0;
    for (let at = start; at < start + this.#digits; at++) {
      number = number * this.#base + this.#rankAt(key, at);
    }
    return number;
  }

  /** Returns the first key after `key` whose bytes from `start` on are the number; undefined if it has too many digits. */
  keyOf(number: number, key: Buffer, start: number): Buffer | undefined {
    const digits: number[] = [];
    let rest = number;
    for (let at = 0; at < this.#digits; at++) {
      digits.unshift(rest % this.#base);
      rest = Math.floor(rest / this.#base);
    }
    if (rest > 0) return undefined;
    // Bytes outside the alphabet stay as they are, as long as the digits are the same.
    let same = 0;
    while (same < digits.length && digits[same] === this.#rankAt(key, start + same)) same++;
    const changed = digits.slice(same).map((digit) => this.#bytes[digit - 1] ?? 0);
    const kept = Buffer.alloc(start + same);
    key.copy(kept, 0, 0, start + same);
    return Buffer.concat([kept, Buffer.from(changed)]);
  }

  /** Returns how many digits of a number are zeros at its beginning. */
  leadingZeros(number: number): number {
    let digits = this.#digits;
    for (let rest = number; rest >= 1; rest /= this.#base) digits--;
    return Math.max(0, digits);
  }

  #rankAt(key: Buffer, at: number): number {
    return at < key.length ? (this.#ranks[key[at] ?? 0] ?? 0) : 0;
  }
}

/** An interval whose keys are known. */
export interface Known {
  readonly from: Buffer;
  readonly to: Buffer;
  readonly alphabet: Alphabet;
}

/**
 * Returns a key after `from`, with `factor` times as many keys in between as the known interval has, if they are equally
 * dense.
 * @param factor is limited to 16, so that one sparse interval does not mislead
 */
export function extrapolate(known: Known, from: Buffer, factor: number, end: Buffer): Buffer {
  const start = commonLength(known.from, known.to);
  const step = Math.ceil(widthOf(known, start) * Math.min(factor, MAX_FACTOR));
  const next = known.alphabet.numberAt(from, start) + step;
  return known.alphabet.keyOf(next, from, start) ?? behindPrefix(from, start, end);
}

/**
 * Returns where keys are expected again after intervals without keys: behind all keys that share a prefix with `from`.
 * @param shorter by how many bytes the prefix is shorter than the one within which the known keys would vary
 */
export function beyondGap(known: Known, from: Buffer, shorter: number, end: Buffer): Buffer {
  const start = commonLength(known.from, known.to);
  const same = known.alphabet.leadingZeros(widthOf(known, start));
  return behindPrefix(from, start + same + 1 - shorter, end);
}

function widthOf({ from, to, alphabet }: Known, start: number): number {
  return Math.max(1, alphabet.numberAt(to, start) - alphabet.numberAt(from, start));
}

/** Returns the number of bytes at the beginning of two keys that are the same. */
export function commonLength(one: Buffer, other: Buffer): number {
  const most = Math.min(one.length, other.length);
  let length = 0;
  while (length < most && one[length] === other[length]) length++;
  return length;
}

/** Returns the first key after those that share the prefix; `end` if there is none. */
function behindPrefix(key: Buffer, length: number, end: Buffer): Buffer {
  for (let at = Math.min(length, key.length) - 1; at >= 0; at--) {
    const byte = key[at] ?? 0;
    if (byte === 0xff) continue;
    const bytes = Buffer.from(key.subarray(0, at + 1));
    bytes.writeUInt8(byte + 1, at);
    return bytes;
  }
  return end;
}
