// What sinks are given for a line of the audit log: its fields; or, if it is not a line of an audit log, a statement of that,
// so that what somebody else wrote into the file reaches a receiver as a finding and not as an event.
import { createHash } from "node:crypto";
import { truncate } from "../../untrusted-text.js";
import type { ReadLine } from "./line-reader.js";

export type Line = Readonly<Record<string, unknown>>;

const MAX_SHOWN = 256;

/** Returns the fields of a line, or an "unreadable" event with the length, digest and beginning of its text. */
export function stated({ text, fields }: ReadLine): Line {
  if (fields !== undefined) return fields;
  const bytes = Buffer.from(text, "utf8");
  const sha256 = createHash("sha256").update(bytes).digest("hex");
  return { event: "unreadable", bytes: bytes.length, sha256, text: truncate(text, MAX_SHOWN) };
}
