// Bounds the log lines about what a client can cause in a loop, so that the useful lines stay visible: the first event
// of a kind is logged at once, later ones at most once per interval, with their number.

/** Writes the line about the latest event. @param times number of events since the previous line of this kind */
type WriteLine = (times: number) => void;

interface Repetition {
  times: number;
  write: WriteLine;
}

/** Limits how often lines of one kind are logged. */
export class RepeatedLines {
  readonly #intervalMs: number;
  /** Kinds with a line in the current interval, and their events since that line. */
  readonly #kinds = new Map<string, Repetition>();

  constructor(intervalMs: number) {
    this.#intervalMs = intervalMs;
  }

  /** Writes the line now, or at the end of the interval. Kinds must come from a small, fixed set. */
  add(kind: string, write: WriteLine): void {
    const known = this.#kinds.get(kind);
    if (known !== undefined) {
      known.times += 1;
      known.write = write;
      return;
    }
    write(1);
    this.#begin(kind, write);
  }

  /** Writes the lines that still wait for the end of their interval. */
  flush(): void {
    for (const repetition of this.#kinds.values()) {
      const { times, write } = repetition;
      repetition.times = 0;
      if (times > 0) write(times);
    }
  }

  #begin(kind: string, write: WriteLine): void {
    const repetition = { times: 0, write };
    this.#kinds.set(kind, repetition);
    setTimeout(() => {
      this.#end(kind, repetition);
    }, this.#intervalMs).unref();
  }

  #end(kind: string, { times, write }: Repetition): void {
    this.#kinds.delete(kind);
    if (times === 0) return;
    write(times);
    this.#begin(kind, write);
  }
}
