// The text of a progress display, and the rate that it shows. States only what is known: without a total it gives
// neither a fraction nor a remaining time. Knows no terminal.

export interface Step {
  /** What is counted, in the plural: "objects". */
  readonly unit: string;
  readonly done: number;
  /** 0 if it is not known. */
  readonly total: number;
  /** The total may turn out higher or lower. */
  readonly isEstimate?: boolean;
}

const BAR_LENGTH = 30;
/** From this many columns on there is space for the bar. */
const BAR_COLUMNS = 72;

/**
 * Returns the line.
 * @param rate per second; undefined if it is not known yet
 * @param columns of the terminal
 */
export function progressLine(
  { unit, done, total, isEstimate = false }: Step,
  rate?: number,
  columns = Infinity,
): string {
  // An estimate that has been exceeded says nothing about what remains.
  const isKnown = total > 0 && done <= total;
  const part = isKnown ? done / total : 0;
  const parts = isKnown
    ? [
        `${columns < BAR_COLUMNS ? "" : `${bar(part)} `}${Math.floor(part * 100)} %`,
        `${number(done)} of ${isEstimate ? "about " : ""}${number(total)} ${unit}`,
      ]
    : [`${number(done)} ${unit}`];
  if (rate !== undefined) parts.push(`${rate < 10 ? rate.toFixed(1) : number(rate)} a second`);
  if (isKnown && rate !== undefined && rate > 0 && done < total) {
    parts.push(`${isEstimate ? "about " : ""}${duration((total - done) / rate)} left`);
  }
  return parts.join(" | ");
}

const FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏";
const FRAME_MS = 100;

/** Returns the line of a command that waits. @param command such as "keys list" */
export function waitingLine(command: string, elapsedMs: number): string {
  const frame = FRAMES[Math.floor(elapsedMs / FRAME_MS) % FRAMES.length] ?? "";
  return `${frame} ${command}: waiting, ${Math.floor(elapsedMs / 1000)} s`;
}

function bar(part: number): string {
  const filled = Math.floor(part * BAR_LENGTH);
  return "█".repeat(filled) + "░".repeat(BAR_LENGTH - filled);
}

function number(value: number): string {
  return Math.round(value).toLocaleString("en");
}

function duration(seconds: number): string {
  if (seconds < 60) return `${Math.ceil(seconds)} s`;
  const minutes = Math.ceil(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** The rate follows a pause or a change of speed within this time. */
const WINDOW_MS = 10_000;
const SAMPLE_EVERY_MS = 500;

/** Computes the rate of the last 10 s. */
export class Pace {
  readonly #samples: { readonly at: number; readonly done: number }[];

  /** @param startedAt the time in ms, by the same clock as for `rate` */
  constructor(startedAt: number) {
    this.#samples = [{ at: startedAt, done: 0 }];
  }

  /** Returns the rate per second; undefined in the first half second. */
  rate(done: number, now: number): number | undefined {
    const last = this.#samples.at(-1);
    if (last === undefined || now - last.at >= SAMPLE_EVERY_MS) this.#samples.push({ at: now, done });
    while (this.#samples.length > 2 && now - (this.#samples[1]?.at ?? now) >= WINDOW_MS) {
      this.#samples.shift();
    }
    const [first] = this.#samples;
    if (first === undefined || now - first.at < SAMPLE_EVERY_MS) return undefined;
    return (done - first.done) / ((now - first.at) / 1000);
  }
}
