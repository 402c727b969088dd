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
