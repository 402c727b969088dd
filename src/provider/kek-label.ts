// Activation instants as they stand in a CKA_LABEL: ISO 8601 basic format, UTC, whole seconds, so that labels
// sort by time and fit tokens with short labels. `<object>@20261121T100000Z`.

import { z } from "zod";

const TIME = z.iso.datetime({ offset: true }).or(z.iso.datetime({ offset: true, precision: -1 }));
const PATTERN = /^(\d{4})(\d{2})(\d{2})T(\d{2})(\d{2})(\d{2})Z$/;

/** @param instant ms since the epoch; fractions of a second are dropped */
export function formatInstant(instant: number): string {
  return new Date(instant)
    .toISOString()
    .replace(/\.\d{3}Z$/, "Z")
    .replace(/[-:]/g, "");
}

/** Returns ms since the epoch, or undefined for anything but a real instant in exactly this form. */
export function parseInstant(text: string): number | undefined {
  const [, year, month, day, hour, minute, second] = PATTERN.exec(text) ?? [];
  if (year === undefined) return undefined;
  const iso = `${year}-${month ?? ""}-${day ?? ""}T${hour ?? ""}:${minute ?? ""}:${second ?? ""}Z`;
  const instant = Date.parse(iso);
  return Number.isNaN(instant) || formatInstant(instant) !== text ? undefined : instant;
}

/** The CKA_LABEL of a generation. */
export function labelOf(objectName: string, activation: number): string {
  return `${objectName}@${formatInstant(activation)}`;
}

/**
 * Returns ms since the epoch for an RFC 3339 time with its zone, seconds optional; undefined for anything else, such as
 * 30 February, which Date.parse takes for a day in March.
 */
export function parseTime(text: string): number | undefined {
  const instant = TIME.safeParse(text).success ? Date.parse(text) : Number.NaN;
  return Number.isNaN(instant) ? undefined : instant;
}
