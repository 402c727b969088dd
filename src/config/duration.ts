// Durations as people write them: "500ms", "2s", "10m", "1h30m". A bare number is not a duration, since nobody
// can tell seconds from milliseconds. Also reads the durations of Kubernetes' files, which Go defines.

/** Whole numbers, largest unit first, each unit once; nine digits hold a day of milliseconds. */
const FORM = /^(?:(\d{1,9})h)?(?:(\d{1,9})m(?!s))?(?:(\d{1,9})s)?(?:(\d{1,9})ms)?$/;
const UNITS_MS = [3_600_000, 60_000, 1000, 1];
const UNIT_NAMES = ["h", "m", "s", "ms"];

/** Returns milliseconds; undefined if the text is not a duration. */
export function parseDuration(text: string): number | undefined {
  const groups: readonly (string | undefined)[] | undefined =
    text === "" ? undefined : FORM.exec(text)?.slice(1);
  return groups?.reduce((sum, digits = "0", unit) => sum + Number(digits) * (UNITS_MS[unit] ?? 0), 0);
}

/** Returns `ms` whole milliseconds in the form that `parseDuration` reads. */
export function formatDuration(ms: number): string {
  let rest = ms;
  const parts = UNITS_MS.map((unit, at) => {
    const count = Math.floor(rest / unit);
    rest -= count * unit;
    return count === 0 ? "" : `${count}${UNIT_NAMES[at] ?? ""}`;
  });
  return parts.join("") || "0s";
}

const GO_UNITS_NS: Readonly<Record<string, bigint>> = {
  ns: 1n,
  us: 1_000n,
  // The micro sign, and the Greek letter.
  "\u00b5s": 1_000n,
  "\u03bcs": 1_000n,
  ms: 1_000_000n,
  s: 1_000_000_000n,
  m: 60_000_000_000n,
  h: 3_600_000_000_000n,
};
const GO_TERM = /(\d{1,20})?(?:\.(\d{0,40}))?(ns|us|\u00b5s|\u03bcs|ms|s|m|h)/g;
const GO_MAX_NS = 2n ** 63n - 1n;
const MAX_GO_LENGTH = 200;

/**
 * Returns the milliseconds of a duration in Go's format ("1.5s", "1m0.5s"); undefined if the text is not such a
 * duration or is negative. Go counts whole nanoseconds and refuses more than an int64 holds.
 */
export function parseGoDuration(text: string): number | undefined {
  const unsigned = text.replace(/^\+/, "");
  if (unsigned === "0") return 0;
  if (unsigned.length > MAX_GO_LENGTH) return undefined;
  const terms = [...unsigned.matchAll(GO_TERM)];
  if (terms.length === 0 || terms.map(([term]) => term).join("") !== unsigned) return undefined;
  let sum = 0n;
  for (const [, whole = "", fraction = "", unit = ""] of terms) {
    if (whole + fraction === "") return undefined;
    const ns = GO_UNITS_NS[unit] ?? 0n;
    sum += BigInt(whole) * ns + (BigInt(fraction) * ns) / 10n ** BigInt(fraction.length);
  }
  return sum > GO_MAX_NS ? undefined : Number(sum) / 1e6;
}
