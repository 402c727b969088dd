// The severity of an audit line, in four levels, for each of which syslog and OCSF have a number.
import type { Line } from "./line-fields.js";

/** `alarm`: somebody may have changed the audit log. */
export type Severity = "info" | "notice" | "warning" | "alarm";

const BY_EVENT: Readonly<Record<string, Severity>> = {
  operator: "notice",
  share: "notice",
  started: "notice",
  stopped: "notice",
  locked: "warning",
  unlocked: "notice",
  gap: "warning",
  missing: "alarm",
  restarted: "alarm",
  unreadable: "alarm",
};
const GOOD = new Set(["OK", "ok", "accepted", "begun", "gone"]);

/** Returns the severity of a line; that of a failed operation is at least a warning. */
export function severityOf(line: Line): Severity {
  const severity = BY_EVENT[String(line["event"])] ?? "info";
  const isOutcome = typeof line["outcome"] === "string";
  return isOutcome && !isGood(line) && severity !== "alarm" ? "warning" : severity;
}

/** Returns whether a line's outcome is that of a success, or of an operation that begins. */
export function isGood({ outcome }: Line): boolean {
  return typeof outcome === "string" && GOOD.has(outcome);
}
