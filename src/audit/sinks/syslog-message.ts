// Writes a line of the audit log as a syslog message (RFC 5424). The message's text is the line itself, which its receiver can
// verify, or an OCSF event. It is printable ASCII, so it carries no byte order mark, and never longer than the receiver accepts.
import { asciiJson, shortJson } from "./ascii-json.js";
import type { ReadLine } from "./line-reader.js";
import { shortOcsf } from "./short-ocsf.js";
import { severityOf, type Severity } from "./severity.js";
import { fieldsOf, type Line } from "./line-fields.js";

/** Numbers of facilities (RFC 5424 table 1). */
export const FACILITIES = {
  auth: 4,
  authpriv: 10,
  audit: 13,
  local0: 16,
  local1: 17,
  local2: 18,
  local3: 19,
  local4: 20,
  local5: 21,
  local6: 22,
  local7: 23,
} as const;

export type Facility = keyof typeof FACILITIES;

/** What a sink's messages look like. */
export interface MessageFormat {
  readonly format: "json" | "ocsf";
  readonly facility: Facility;
  readonly maxMessageBytes: number;
  readonly host: string;
  readonly version: string;
}

/** Severities of RFC 5424 table 2. */
const SYSLOG_SEVERITY: Readonly<Record<Severity, number>> = { info: 6, notice: 5, warning: 4, alarm: 1 };
const NIL = "-";
const NAME = "kms-pkcs11";

/** Returns the message for one line. */
export function syslogMessage(read: ReadLine, options: MessageFormat): Buffer {
  const line = fieldsOf(read);
  const header = headerOf(line, options);
  const max = options.maxMessageBytes - header.length - 1;
  const text = options.format === "ocsf" ? shortOcsf(line, options, max) : lineText(read, line, max);
  return Buffer.from(`${header} ${text}`, "latin1");
}

/** Returns the line's own bytes if they are printable ASCII, so that its MAC still verifies. */
function lineText({ text }: ReadLine, line: Line, max: number): string {
  if (text === asciiJson(line) && text.length <= max) return text;
  return shortJson(line, max);
}

function headerOf(line: Line, { facility, host, version }: MessageFormat): string {
  const priority = 8 * FACILITIES[facility] + SYSLOG_SEVERITY[severityOf(line)];
  const origin = `[origin software="${NAME}" swVersion="${printable(version, 32).replace(/["\\\]]/g, "_")}"]`;
  const event = printable(String(line["event"]), 32);
  return `<${priority}>1 ${timestamp(line["time"])} ${printable(host, 255)} ${NAME} ${NIL} ${event} ${origin}`;
}

/** Returns an RFC 3339 time as RFC 5424 accepts it, else the nil value. */
function timestamp(time: unknown): string {
  return typeof time === "string" && /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/.test(time) ? time : NIL;
}

/** Returns PRINTUSASCII of a limited length; the nil value for nothing. */
function printable(text: string, max: number): string {
  return text.replace(/[^\x21-\x7e]/g, "_").slice(0, max) || NIL;
}
