// Random values of bounded size, and the parts of a call that the families of hostile bytes share.

import {
  callHeaders,
  DATA,
  END_HEADERS,
  END_STREAM,
  frame,
  HEADERS,
  PREFACE,
  SETTINGS,
} from "../support/http2-frames.js";

export type Random = () => number;

/** Generators of hostile bytes, by the name of the attack. */
export type Families = Readonly<Record<string, (random: Random) => Buffer>>;

const METHODS = ["Status", "Encrypt", "Decrypt", "Steal"];
export const STREAM = 1;

export const below = (random: Random, limit: number): number => Math.floor(random() * limit);
export const bytesOf = (random: Random, most: number): Buffer =>
  Buffer.from(Array.from({ length: below(random, most) }, () => below(random, 256)));
export const repeat = (count: number, make: (index: number) => Buffer): Buffer =>
  Buffer.concat(Array.from({ length: count }, (_, index) => make(index)));
/** Returns a random element. */
export function pick<T>(random: Random, from: readonly T[]): T {
  const picked = from[below(random, from.length)];
  if (picked === undefined) throw new RangeError("nothing to pick from");
  return picked;
}

export const OPENING = Buffer.concat([PREFACE, frame(SETTINGS, 0, 0)]);
export const method = (random: Random): string => pick(random, METHODS);
export const open = (stream: number, headers: Uint8Array, flags = END_HEADERS): Buffer =>
  frame(HEADERS, flags, stream, headers);
export const call = (random: Random, body: Uint8Array, more: Readonly<Record<string, string>> = {}): Buffer =>
  Buffer.concat([
    OPENING,
    open(STREAM, callHeaders(method(random), more)),
    // Frames of at most 16 KiB, the initial limit of both sides.
    repeat(Math.ceil(body.length / 16_384), (index) =>
      frame(DATA, 0, STREAM, body.subarray(index * 16_384, (index + 1) * 16_384)),
    ),
    frame(DATA, END_STREAM, STREAM),
  ]);
/** Returns the number of a stream: clients use odd numbers. */
export const nth = (index: number): number => 2 * index + 1;
