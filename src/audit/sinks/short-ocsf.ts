// Writes an OCSF event in at most as many bytes as a receiver accepts. The event stays valid: texts are cut first, then whatever
// is not required is left out, and `unmapped.shortened` says so.
import { truncate } from "../../untrusted-text.js";
import { asciiJson, cutTexts } from "./ascii-json.js";
import type { Line } from "./line-fields.js";
import { ocsfEvent, type OcsfEvent, type OcsfSender } from "./ocsf.js";

/** Attributes that some class requires, and what identifies the line. */
const REQUIRED = [
  "class_uid",
  "category_uid",
  "type_uid",
  "activity_id",
  "activity_name",
  "time",
  "severity_id",
  "status_id",
  "status",
];
/** Fields of a line that are kept if all of it is too long, each with at most MAX_TEXT characters. */
const KEPT = ["time", "seq", "event", "operation", "outcome"];
const MAX_TEXT = 32;

/** Returns the event of a line as JSON in printable ASCII, of at most `max` bytes if that is 560 or more. */
export function shortOcsf(line: Line, sender: OcsfSender, max: number): string {
  const event = ocsfEvent(line, sender);
  const whole = asciiJson(event);
  if (whole.length <= max) return whole;
  const marked = { ...event, unmapped: { ...(event["unmapped"] as object), shortened: true } };
  const smallest = leastOf(line, sender);
  return cutTexts(marked, max) ?? cutTexts(smallest, max) ?? asciiJson(smallest);
}

/** Returns an event with nothing but what its class requires. */
function leastOf(line: Line, { host, version }: OcsfSender): OcsfEvent {
  const kept = KEPT.flatMap((name): (readonly [string, string | number])[] => {
    const value = line[name];
    if (typeof value === "string") return [[name, truncate(value, MAX_TEXT)]];
    return typeof value === "number" ? [[name, value]] : [];
  });
  const sender = { host: truncate(host, MAX_TEXT), version: truncate(version, MAX_TEXT) };
  const event = ocsfEvent(Object.fromEntries(kept), sender);
  const { metadata, app, actor, api, src_endpoint } = event as Record<string, Record<string, unknown>>;
  return {
    ...only(event, ...REQUIRED),
    metadata: only(metadata, "version", "product", "event_code", "sequence"),
    ...(app !== undefined && { app: only(app, "name") }),
    ...(actor !== undefined && { actor: only(actor, "app_name") }),
    ...(api !== undefined && { api: only(api, "operation") }),
    ...(src_endpoint !== undefined && { src_endpoint: only(src_endpoint, "hostname") }),
    unmapped: { shortened: true },
  };
}

function only(value: Readonly<Record<string, unknown>> = {}, ...names: string[]): object {
  return Object.fromEntries(Object.entries(value).filter(([name]) => names.includes(name)));
}
