// Chooses how far the next range of keys extends. etcd counts all keys of a range again for every page of it, so the time
// for one long range grows with the square of the number of keys. Short ranges of a few pages avoid that. The distribution
// of the keys is unknown: the keys read last show how dense they are.

/** Number of bytes after the common prefix of two keys that count as their distance. */
const DIGITS = 6;
const LIMIT = 256 ** DIGITS;
const MAX_FACTOR = 16;

/**
 * Returns a key between `to` and `end`: if keys continue to be as dense as from `from` to `to`, it is `factor` times as
 * many keys after `to`.
 * @param factor is limited to 1 to 16, so that one sparse or dense interval does not mislead
 */
export function extrapolate(from: Buffer, to: Buffer, factor: number, end: Buffer): Buffer {
  const length = commonLength(from, to);
  const last = digitsOf(to, length);
  const width = Math.max(1, last - digitsOf(from, length));
  const next = last + Math.ceil(width * Math.min(Math.max(factor, 1), MAX_FACTOR));
  return earlier(next < LIMIT ? withDigits(to, length, next) : behindPrefix(to, length, end), end);
}

/**
 * Returns a key after `to` for an interval without keys: after all keys that share a shorter prefix.
 * @param gaps the number of intervals without keys so far, each of which doubles the bytes that are cut off
 */
export function beyondGap(from: Buffer, to: Buffer, gaps: number, end: Buffer): Buffer {
  return earlier(behindPrefix(to, commonLength(from, to) - 2 ** (gaps - 1), end), end);
}

function commonLength(one: Buffer, other: Buffer): number {
  const most = Math.min(one.length, other.length);
  let length = 0;
  while (length < most && one[length] === other[length]) length++;
  return length;
}

/** Returns the bytes after the prefix as a number. */
function digitsOf(key: Buffer, length: number): number {
  let digits = 0;
  for (let at = length; at < length + DIGITS; at++) digits = digits * 256 + (key[at] ?? 0);
  return digits;
}

function withDigits(key: Buffer, length: number, digits: number): Buffer {
  const bytes = Buffer.alloc(length + DIGITS);
  key.copy(bytes, 0, 0, length);
  bytes.writeUIntBE(digits, length, DIGITS);
  return bytes;
}

/** Returns the first key after those that share the prefix; `end` if there is none. */
function behindPrefix(key: Buffer, length: number, end: Buffer): Buffer {
  for (let at = length - 1; at >= 0; at--) {
    const byte = key[at] ?? 0;
    if (byte === 0xff) continue;
    const bytes = Buffer.from(key.subarray(0, at + 1));
    bytes.writeUInt8(byte + 1, at);
    return bytes;
  }
  return end;
}

function earlier(one: Buffer, other: Buffer): Buffer {
  return one.compare(other) < 0 ? one : other;
}
