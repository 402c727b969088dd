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

const GO_UNITS_MS: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3,
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
};
const GO_TERM = /(\d{1,15}(?:\.\d{0,9})?|\.\d{1,9})(ns|us|µs|ms|s|m|h)/g;

/** Returns the milliseconds of a duration as Go writes it ("1.5s", "1m0.5s"), for files of Kubernetes; undefined if it is none. */
export function parseGoDuration(text: string): number | undefined {
  const terms = [...text.matchAll(GO_TERM)];
  if (terms.length === 0 || terms.map(([term]) => term).join("") !== text) return undefined;
  return terms.reduce((sum, [, count = "", unit = ""]) => sum + Number(count) * (GO_UNITS_MS[unit] ?? 0), 0);
}
