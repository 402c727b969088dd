// Bech32m (BIP-350) over bytes, since a string cannot be zeroed. Its checksum detects any four wrong characters. The
// distance of the code is five, so one or two wrong characters can also be located. Knows nothing of shares.
const ALPHABET = Buffer.from("qpzry9x8gf2tvdw0s3jn54khce6mua7l");
const GENERATOR = [0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3] as const;
const CHECK = 0x2bc830a3;
const SEPARATOR = 0x31;
/** Length of the checksum in characters. */
export const CHECKSUM_LENGTH = 6;

/** Data, or the positions of characters that are wrong, counted from 0 after the separator. */
export type Decoded =
  | { readonly ok: true; readonly data: Buffer }
  /** `at` is empty if the positions of the wrong characters cannot be computed. */
  | { readonly ok: false; readonly is: "alphabet" | "checksum"; readonly at: readonly number[] };

/** Returns how many characters follow the separator for this many bytes, checksum included. */
export function encodedLength(bytes: number): number {
  return Math.ceil((bytes * 8) / 5) + CHECKSUM_LENGTH;
}

/** Returns the prefix, the separator, the data and the checksum, in lower case. */
export function encodeBech32m(prefix: string, data: Uint8Array): Buffer {
  const values = toFives(data);
  const text = Buffer.alloc(prefix.length + 1 + values.length + CHECKSUM_LENGTH);
  text.write(prefix, "latin1");
  text[prefix.length] = SEPARATOR;
  const body = text.subarray(prefix.length + 1);
  const sum = polymod(new Uint8Array(CHECKSUM_LENGTH), polymod(values, startOf(prefix))) ^ CHECK;
  for (const [at, value] of values.entries()) body[at] = ALPHABET[value] ?? 0;
  for (let at = 0; at < CHECKSUM_LENGTH; at++) {
    body[values.length + at] = ALPHABET[(sum >>> (5 * (CHECKSUM_LENGTH - 1 - at))) & 31] ?? 0;
  }
  values.fill(0);
  return text;
}

/**
 * Returns the data of `body`, the characters after the separator in lower case. Padding that is not zero is a wrong
 * checksum. The caller has checked the length and owns the data.
 */
export function decodeBech32m(prefix: string, body: Uint8Array): Decoded {
  const values = Uint8Array.from(body, (character) => ALPHABET.indexOf(character) & 0xff);
  try {
    const unknown = [...values.keys()].filter((at) => (values[at] ?? 0) > 31);
    if (unknown.length > 0) return { ok: false, is: "alphabet", at: unknown };
    const syndrome = polymod(values, startOf(prefix)) ^ CHECK;
    if (syndrome !== 0) return { ok: false, is: "checksum", at: locate(syndrome, values.length) };
    const data = toBytes(values.subarray(0, -CHECKSUM_LENGTH));
    return data === undefined ? { ok: false, is: "checksum", at: [] } : { ok: true, data };
  } finally {
    values.fill(0);
  }
}

/** Returns the positions of one or two wrong characters that explain the syndrome; none if more are wrong. */
function locate(syndrome: number, length: number): number[] {
  const places = new Map<number, number>();
  for (let error = 1; error < 32; error++) {
    let remainder = error;
    for (let at = length - 1; at >= 0; at--) {
      places.set(remainder, at);
      remainder = step(remainder, 0);
    }
  }
  const single = places.get(syndrome);
  if (single !== undefined) return [single];
  for (const [first, at] of places) {
    const other = places.get(syndrome ^ first);
    if (other !== undefined && other !== at) return [at, other].sort((a, b) => a - b);
  }
  return [];
}

/**
 * Returns the remainder after more values. The checksum is linear, so the remainder of an error does not depend on the data.
 */
function polymod(values: Uint8Array, start: number): number {
  let remainder = start;
  for (const value of values) remainder = step(remainder, value);
  return remainder;
}

/** Returns the remainder after one more value. */
function step(before: number, value: number): number {
  const top = before >>> 25;
  let remainder = ((before & 0x1ffffff) << 5) ^ value;
  for (const [bit, term] of GENERATOR.entries()) if (((top >>> bit) & 1) === 1) remainder ^= term;
  return remainder;
}

function startOf(prefix: string): number {
  const codes = Buffer.from(prefix, "latin1");
  const high = Uint8Array.from(codes, (code) => code >>> 5);
  const low = Uint8Array.from(codes, (code) => code & 31);
  return polymod(low, polymod(Uint8Array.of(0), polymod(high, 1)));
}

function toFives(bytes: Uint8Array): Uint8Array {
  const values = new Uint8Array(Math.ceil((bytes.length * 8) / 5));
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const isSet = ((bytes[bit >>> 3] ?? 0) >>> (7 - (bit & 7))) & 1;
    setBit(values, Math.floor(bit / 5), isSet << (4 - (bit % 5)));
  }
  return values;
}

/** Returns the bytes; undefined if the padding is not zero, or longer than necessary. */
function toBytes(values: Uint8Array): Buffer | undefined {
  const bytes = Buffer.alloc(Math.floor((values.length * 5) / 8));
  let padding = 0;
  for (let bit = 0; bit < values.length * 5; bit++) {
    const isSet = ((values[Math.floor(bit / 5)] ?? 0) >>> (4 - (bit % 5))) & 1;
    if (bit < bytes.length * 8) setBit(bytes, bit >>> 3, isSet << (7 - (bit & 7)));
    else padding |= isSet;
  }
  if (padding === 0 && values.length * 5 - bytes.length * 8 < 5) return bytes;
  bytes.fill(0);
  return undefined;
}

function setBit(bytes: Uint8Array, at: number, bit: number): void {
  bytes[at] = (bytes[at] ?? 0) | bit;
}
