// Instants and durations as the pages show them: in UTC, with how long ago or how soon.
import { html, type Html } from "./html.js";

const UNITS = [
  [86_400, "d"],
  [3_600, "h"],
  [60, "min"],
] as const;

/** Returns a text such as "3 h ago", "in 12 d" or "now". @param instant and `now` in ms since the epoch */
export function relative(instant: number, now: number): string {
  const seconds = Math.round(Math.abs(instant - now) / 1_000);
  if (seconds < 1) return "now";
  const [length, unit] = UNITS.find(([length]) => seconds >= 2 * length) ?? [1, "s"];
  const text = `${Math.floor(seconds / length)} ${unit}`;
  return instant > now ? `in ${text}` : `${text} ago`;
}

/** Returns a time element with the instant in UTC. */
export function utc(instant: number): Html {
  const iso = new Date(instant).toISOString();
  return html`<time datetime="${iso}">${iso.slice(0, 19).replace("T", " ")} UTC</time>`;
}

/** Returns an ISO 8601 time in ms since the epoch; undefined for null and for an invalid time. */
export function msOf(iso: string | null | undefined): number | undefined {
  const ms = Date.parse(iso ?? "");
  return Number.isNaN(ms) ? undefined : ms;
}
