// The fields of an audit line that sinks format. Bytes that are not a line of an audit log become an event "unreadable", so that
// a receiver gets a finding about them and not an event.
import { truncate } from "../../untrusted-text.js";
import type { ReadLine } from "./line-reader.js";
import { digestOf } from "./position.js";

export type Line = Readonly<Record<string, unknown>>;

const MAX_SHOWN = 256;

/** Returns the fields of a line, or those of an "unreadable" event with the length, digest and beginning of its text. */
export function fieldsOf({ text, fields }: ReadLine): Line {
  if (fields !== undefined) return fields;
  const bytes = Buffer.from(text, "utf8");
  const sha256 = digestOf(bytes);
  return { event: "unreadable", bytes: bytes.length, sha256, text: truncate(text, MAX_SHOWN) };
}

/** Reads the fields of a line one by one, and knows which were not read. */
export class LineFields {
  readonly #line: Line;
  readonly #read = new Set<string>();

  constructor(line: Line) {
    this.#line = line;
  }

  /** Returns a text; undefined, and the field stays unread, if it is another type. */
  text(name: string): string | undefined {
    const value = this.#line[name];
    if (typeof value !== "string") return undefined;
    this.#read.add(name);
    return value;
  }

  /** Returns a whole number; undefined, and the field stays unread, if it is another type. */
  number(name: string): number | undefined {
    const value = this.#line[name];
    if (typeof value !== "number" || !Number.isSafeInteger(value)) return undefined;
    this.#read.add(name);
    return value;
  }

  /** Returns the fields that were not read. */
  unread(): Line {
    return Object.fromEntries(Object.entries(this.#line).filter(([name]) => !this.#read.has(name)));
  }
}
