// Reads an audit log from a position on, across rotated files, for a sink. Changes nothing and takes no lock. Does not verify
// MACs: a sink gets what the file holds, and `audit verify` checks it.
import { splitLines } from "../chain-tail.js";
import { MAX_LINE_BYTES } from "../line.js";
import { findPlace, nextFile, type OpenPlace } from "./log-place.js";
import { digestOf, type Position } from "./position.js";

/** Bytes of the log that are read at a time: formatting them occupies the event loop for about a millisecond. */
const CHUNK_BYTES = 32 * 1024;
const NEWLINE = 0x0a;
/** Maximum nesting of a line: an event holds objects of names and numbers. */
const MAX_DEPTH = 4;

/** A line of the log, whoever wrote it. */
export interface ReadLine {
  readonly text: string;
  /** The line's fields; undefined if it is not a numbered JSON object. */
  readonly fields: Readonly<Record<string, unknown>> | undefined;
}

/** What follows a position. */
export interface Batch {
  readonly lines: readonly ReadLine[];
  /** The position after the lines; undefined if nothing was found at all. */
  readonly end: Position | undefined;
  /** Number of lines that rotation removed before they were read. */
  readonly missing: number;
  /** Whether the log no longer holds the position's line, so that it is read from its beginning. */
  readonly replaced: boolean;
}

const NOTHING: Batch = { lines: [], end: undefined, missing: 0, replaced: false };

/**
 * Returns the next complete lines after a position; none at the end of the log. A last line without a line feed is left
 * until it is complete.
 * @param after undefined for the beginning of the log
 * @throws NodeJS.ErrnoException, KmsError CONFIG_INVALID if a file cannot be read
 */
export async function readLinesAfter(file: string, after: Position | undefined): Promise<Batch> {
  let place = await findPlace(file, after);
  if (place === undefined) return NOTHING;
  try {
    for (;;) {
      const read = await readChunk(place);
      if (read.lines.length > 0) return withGaps(read, place, after);
      if (place.isWritten) return { ...NOTHING, end: read.end };
      const next = await nextFile(file, place);
      if (next === undefined) return { ...NOTHING, end: read.end };
      await place.handle.close();
      place = next;
    }
  } finally {
    await place.handle.close();
  }
}

interface Chunk {
  readonly lines: readonly ReadLine[];
  readonly end: Position;
}

function withGaps(read: Chunk, { isStart, isReplaced }: OpenPlace, after: Position | undefined): Batch {
  const first = read.lines.find(({ fields }) => fields !== undefined)?.fields?.["seq"];
  const isGap = isStart && !isReplaced && after !== undefined && typeof first === "number";
  return { ...read, missing: isGap ? Math.max(0, first - after.seq - 1) : 0, replaced: isReplaced };
}

async function readChunk(place: OpenPlace): Promise<Chunk> {
  for (const size of [CHUNK_BYTES, MAX_LINE_BYTES]) {
    const bytes = Buffer.alloc(size);
    const { bytesRead } = await place.handle.read(bytes, 0, size, place.offset);
    const lineEnd = bytes.lastIndexOf(NEWLINE, bytesRead - 1);
    if (bytesRead > 0 && lineEnd >= 0) return chunkOf(place, bytes.subarray(0, lineEnd + 1));
    // Writers no longer append to a rotated file, and no line of theirs is this long.
    const isForeign =
      bytesRead > 0 && (bytesRead === MAX_LINE_BYTES || (bytesRead < size && !place.isWritten));
    if (isForeign) return chunkOf(place, bytes.subarray(0, bytesRead));
    if (bytesRead < size) break;
  }
  const { inode, offset, tailBytes, tailDigest, seq, mac } = place;
  return { lines: [], end: { inode, offset, tailBytes, tailDigest, seq, mac } };
}

function chunkOf({ inode, offset, seq, mac }: OpenPlace, bytes: Buffer): Chunk {
  const raw = splitLines(bytes).filter(({ length }) => length > 0);
  const lines = raw.map(readLine);
  const last = lines.findLast(({ fields }) => fields !== undefined)?.fields;
  const tail = raw.length === 0 ? bytes : bytes.subarray(bytes.length - (raw.at(-1)?.length ?? 0) - 1);
  return {
    lines,
    end: {
      inode,
      offset: offset + bytes.length,
      tailBytes: tail.length,
      tailDigest: digestOf(tail),
      seq: typeof last?.["seq"] === "number" ? last["seq"] : seq,
      mac: typeof last?.["mac"] === "string" ? last["mac"] : mac,
    },
  };
}

/** Returns one line with its fields, if they can be those of an event. */
export function readLine(bytes: Buffer): ReadLine {
  const text = bytes.toString("utf8");
  try {
    const fields = JSON.parse(text) as unknown;
    return { text, fields: isEvent(fields) ? fields : undefined };
  } catch {
    return { text, fields: undefined };
  }
}

function isEvent(value: unknown): value is Readonly<Record<string, unknown>> {
  if (typeof value !== "object" || value === null || !isShallow(value, MAX_DEPTH)) return false;
  return (
    "seq" in value && Number.isSafeInteger(value.seq) && "event" in value && typeof value.event === "string"
  );
}

/** Returns whether objects are nested at most `depth` levels: recursion through deeper ones could exhaust the stack. */
function isShallow(value: object, depth: number): boolean {
  if (depth === 0) return false;
  return Object.values(value).every(
    (held: unknown) => typeof held !== "object" || held === null || isShallow(held, depth - 1),
  );
}
