// Plans the range requests for all keys of an interval: which pieces are requested, several at a time, and what remains
// after each answer. Makes no request. Pieces never overlap and leave nothing out, whatever their ends: those only decide how
// many keys a piece has. They are chosen so that a piece has about as many keys as a page, since etcd counts all keys of a
// range for each page of it.
import { Alphabet, beyondGap, commonLength, extrapolate, type Known } from "./key-interval.js";
import type { RangePage } from "./range-response.js";

/** The size of a page. Each of the pages in memory may be as large as a message, if large objects follow small ones. */
const PAGE_BYTES = 2 * 1024 * 1024;
const FIRST_LIMIT = 100;
const MAX_LIMIT = 5_000;
/** An interval that holds no more pages than this is requested as a whole. */
const WHOLE_PAGES = 2;
/** Pieces that hold less than this part of a page are too small. */
const SMALL = 1 / 16;
/** After so many small pieces in a row, the rest of the interval is requested as a whole, so that odd keys cost few requests. */
const MAX_SMALL = 16;

/** Keys from `from` up to `to`, which is not included. */
export interface Interval {
  readonly from: Buffer;
  readonly to: Buffer;
}

/** A range request. */
export interface Piece extends Interval {
  /** The maximum number of keys in the answer. */
  readonly limit: number;
}

/** What the answers showed about the keys before an interval. */
interface Density extends Known {
  /** The number of keys in the last piece that had any. */
  readonly keys: number;
  readonly limit: number;
  /** Pieces without keys in a row. */
  readonly gaps: number;
  /** Pieces with few keys in a row, or none. */
  readonly small: number;
}

/** An interval of which no piece has been requested yet. */
interface Open {
  from: Buffer;
  readonly to: Buffer;
  density: Density;
  /** The number of its keys, if it is known. */
  readonly keys: number | undefined;
}

export class IntervalPlan {
  /** In the order of the keys. */
  readonly #open: Open[] = [];
  /** The interval from which each requested piece was cut. */
  readonly #origins = new Map<Piece, Open>();

  /** Begins with the whole interval as the first piece, for a first impression of its keys. */
  constructor({ from, to }: Interval) {
    const alphabet = new Alphabet([], 0);
    const density = { from, to: from, alphabet, keys: 0, limit: FIRST_LIMIT, gaps: 0, small: MAX_SMALL };
    this.#open.push({ from, to, density, keys: undefined });
  }

  /** Takes the next piece to request, the one with the lowest keys; undefined if all have been requested. */
  next(): Piece | undefined {
    const [open] = this.#open;
    if (open === undefined) return undefined;
    const { from, to, density } = open;
    const piece = { from, to: earlier(endOf(open), to), limit: density.limit };
    open.from = piece.to;
    if (open.from.equals(to)) this.#open.shift();
    this.#origins.set(piece, open);
    return piece;
  }

  /**
   * Notes the answer to a piece.
   * @param limit the limit that was requested in the end
   */
  answered(piece: Piece, limit: number, page: RangePage): void {
    const origin = this.#origins.get(piece);
    if (origin === undefined) throw new TypeError("not a requested piece");
    this.#origins.delete(piece);
    const next = nextLimit(limit, page);
    const { gaps, small } = origin.density;
    const counts = { limit: next, small: page.count < limit * SMALL ? small + 1 : 0 };
    if (page.count === 0) origin.density = { ...origin.density, ...counts, gaps: gaps + 1 };
    else {
      const alphabet = new Alphabet(page.samples, commonLength(page.first, page.last));
      origin.density = { from: piece.from, to: piece.to, alphabet, keys: page.count, ...counts, gaps: 0 };
      if (page.more) this.#addRest(piece, page, alphabet, next);
    }
  }

  #addRest({ to }: Piece, page: RangePage, alphabet: Alphabet, limit: number): void {
    const { first, last, length, count } = page;
    const from = Buffer.concat([last, Buffer.of(0)]);
    // Copies: the page itself is given away.
    const known = { from: Buffer.from(first), to: Buffer.from(last), alphabet };
    const density = { ...known, keys: length, limit, gaps: 0, small: 0 };
    const at = this.#open.findIndex((other) => other.from.compare(from) >= 0);
    this.#open.splice(at < 0 ? this.#open.length : at, 0, { from, to, density, keys: count - length });
  }
}

/** Returns where the next piece of an interval should end; it may be behind the interval's end. */
function endOf({ from, to, density, keys }: Open): Buffer {
  const { limit, gaps, small } = density;
  if (small >= MAX_SMALL || (keys !== undefined && keys <= WHOLE_PAGES * limit)) return to;
  // After a gap the keys may be as dense as before it, so every second piece has the known width.
  if (gaps % 2 === 1) return beyondGap(density, from, (gaps - 1) / 2, to);
  return extrapolate(density, from, limit / density.keys, to);
}

/** Returns a limit that makes the next page about PAGE_BYTES. */
function nextLimit(limit: number, { length, bytes }: RangePage): number {
  if (length === 0) return limit;
  const fitting = Math.floor((PAGE_BYTES / bytes) * length);
  // Large objects may follow small ones, so the limit grows step by step.
  return Math.max(1, Math.min(fitting, limit * 4, MAX_LIMIT));
}

function earlier(one: Buffer, other: Buffer): Buffer {
  return one.compare(other) < 0 ? one : other;
}
