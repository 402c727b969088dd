// JSON texts for sinks: one line of printable ASCII, so that no receiver needs a byte order mark (RFC 5424 section 6.4) and
// nothing in a line ends a message, moves a cursor or looks like another line; and short enough for the receiver.
type Json = Readonly<Record<string, unknown>>;

const NOT_PRINTABLE_ASCII = /[^\x20-\x7e]/g;
const ELLIPSIS = "...";
/** Shortest text that is shortened further. */
const LEAST = 16;
/** A line of the audit log has fewer texts; a line that somebody else wrote must not keep this process busy. */
const MAX_CUTS = 64;

/** Returns a value as JSON in printable ASCII. */
export function asciiJson(value: unknown): string {
  return JSON.stringify(value).replace(
    NOT_PRINTABLE_ASCII,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/**
 * Returns a JSON object as `asciiJson` does, in at most `max` bytes: its longest texts are cut, and `shortened` is added. If
 * that does not suffice, only numbers and short texts of its top level remain.
 */
export function shortJson(value: Json, max: number): string {
  const whole = asciiJson(value);
  if (whole.length <= max) return whole;
  const { text, cut } = cutToFit({ ...value, shortened: true }, max);
  return text ?? minimal(cut, max);
}

/** Returns a JSON object as `asciiJson` does, its longest texts cut to fit into `max` bytes; undefined if that does not suffice. */
export function cutTexts(value: Json, max: number): string | undefined {
  return cutToFit(value, max).text;
}

function cutToFit(value: Json, max: number): { readonly text: string | undefined; readonly cut: Json } {
  const cut: Record<string, unknown> = structuredClone(value);
  for (let cuts = 0; cuts < MAX_CUTS; cuts++) {
    const text = asciiJson(cut);
    if (text.length <= max) return { text, cut };
    if (!cutLongest(cut)) break;
  }
  return { text: undefined, cut };
}

/** Cuts the longest text to half; returns false if all are short. */
function cutLongest(value: object): boolean {
  let longest = LEAST;
  let cut: (() => void) | undefined;
  const visit = (holder: Record<string, unknown>): void => {
    for (const [name, held] of Object.entries(holder)) {
      if (typeof held === "object" && held !== null) visit(held as Record<string, unknown>);
      if (typeof held !== "string" || asciiJson(held).length - 2 <= longest) continue;
      longest = asciiJson(held).length - 2;
      cut = () => (holder[name] = held.slice(0, Math.floor(held.length / 2) - ELLIPSIS.length) + ELLIPSIS);
    }
  };
  visit(value as Record<string, unknown>);
  cut?.();
  return cut !== undefined;
}

function minimal(value: Json, max: number): string {
  let text = "{}";
  const kept: Record<string, unknown> = {};
  for (const [name, held] of Object.entries(value)) {
    if (!["string", "number", "boolean"].includes(typeof held)) continue;
    kept[name] = held;
    const more = asciiJson(kept);
    if (more.length > max) return text;
    text = more;
  }
  return text;
}
