// Formats and parses the label of a generation, `<object>@20261121T100000Z`: object name and activation instant. The
// instant is in ISO 8601 basic format, UTC, whole seconds, so that labels sort by time and fit tokens with short
// labels.

import { z } from "zod";

const TIME = z.iso.datetime({ offset: true }).or(z.iso.datetime({ offset: true, precision: -1 }));
const PATTERN = /^(\d{4})(\d{2})(\d{2})T(\d{2})(\d{2})(\d{2})Z$/;

/** Returns an instant as labels spell it. @param instant ms since the epoch; fractions of a second are dropped */
export function formatInstant(instant: number): string {
  return new Date(instant)
    .toISOString()
    .replace(/\.\d{3}Z$/, "Z")
    .replace(/[-:]/g, "");
}

/** Returns ms since the epoch; undefined unless the text is a real instant in exactly this form. */
export function parseInstant(text: string): number | undefined {
  const [, year, month, day, hour, minute, second] = PATTERN.exec(text) ?? [];
  if (year === undefined) return undefined;
  const iso = `${year}-${month ?? ""}-${day ?? ""}T${hour ?? ""}:${minute ?? ""}:${second ?? ""}Z`;
  const instant = Date.parse(iso);
  return Number.isNaN(instant) || formatInstant(instant) !== text ? undefined : instant;
}

/** Returns the CKA_LABEL of a generation. @param activation ms since the epoch */
export function labelOf(objectName: string, activation: number): string {
  return `${objectName}@${formatInstant(activation)}`;
}

/**
 * Returns ms since the epoch for an RFC 3339 time with a zone, seconds optional; undefined for anything else, such as
 * 30 February, which Date.parse would read as a day in March.
 */
export function parseTime(text: string): number | undefined {
  const instant = TIME.safeParse(text).success ? Date.parse(text) : Number.NaN;
  return Number.isNaN(instant) ? undefined : instant;
}
