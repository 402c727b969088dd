// Durations as people write them: "500ms", "2s", "10m", "1h30m". A bare number is no duration, since nobody
// can tell seconds from milliseconds.

/** Whole numbers, largest unit first, each unit once; nine digits hold a day of milliseconds. */
const FORM = /^(?:(\d{1,9})h)?(?:(\d{1,9})m(?!s))?(?:(\d{1,9})s)?(?:(\d{1,9})ms)?$/;
const UNITS_MS = [3_600_000, 60_000, 1000, 1];
const UNIT_NAMES = ["h", "m", "s", "ms"];

/** Returns milliseconds; undefined if the text is no duration. */
export function parseDuration(text: string): number | undefined {
  const groups: readonly (string | undefined)[] | undefined =
    text === "" ? undefined : FORM.exec(text)?.slice(1);
  return groups?.reduce((sum, digits = "0", unit) => sum + Number(digits) * (UNITS_MS[unit] ?? 0), 0);
}

/** Returns the duration that `parseDuration` reads as `ms` whole milliseconds. */
export function formatDuration(ms: number): string {
  let rest = ms;
  const parts = UNITS_MS.map((unit, at) => {
    const count = Math.floor(rest / unit);
    rest -= count * unit;
    return count === 0 ? "" : `${String(count)}${UNIT_NAMES[at] ?? ""}`;
  });
  return parts.join("") || "0s";
}
