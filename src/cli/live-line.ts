// One line on standard error that changes while a command works: what it waits for, or its progress. It is drawn on
// terminals only, erased before anything else is printed, and drawn again below that. The cursor is never hidden and no
// mode of the terminal is changed, so a command that is killed has nothing to restore.
import { clearScreenDown, cursorTo, moveCursor } from "node:readline";

const DRAW_MS = 100;
const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/** What a line draws on. */
export type LineStream = NodeJS.WritableStream & { readonly columns?: number };

/** Returns the text of the line for a number of columns. */
export type LineText = (columns: number) => string;

/** Draws the text that was shown last; when that ends, the one before it. */
export class LiveLine {
  readonly #stream: LineStream;
  #texts: readonly LineText[] = [];
  #timer: NodeJS.Timeout | undefined;
  /** Length of what is drawn now; 0 if nothing is. */
  #drawn = 0;
  #pauses = 0;

  constructor(stream: LineStream) {
    this.#stream = stream;
  }

  /** Draws a text from now on, computed for each drawing. Returns a function that ends it, which may be called again. */
  show(text: LineText): () => void {
    return this.#add(text, [...this.#texts, text]);
  }

  /** Like `show`, but gives way to the texts that are shown already. */
  showBelow(text: LineText): () => void {
    return this.#add(text, [text, ...this.#texts]);
  }

  #add(text: LineText, texts: readonly LineText[]): () => void {
    this.#texts = texts;
    if (this.#timer === undefined) this.#begin();
    this.#draw();
    return () => {
      if (!this.#texts.includes(text)) return;
      this.#texts = this.#texts.filter((one) => one !== text);
      if (this.#texts.length === 0) this.#end();
      else this.#draw();
    };
  }

  /** Removes what is drawn, before something else is printed. */
  erase(): void {
    if (this.#drawn === 0) return;
    // A terminal that has become narrower may have broken the line.
    const rows = Math.ceil(this.#drawn / Math.max(1, this.#stream.columns || this.#drawn));
    const stream = this.#stream;
    if (rows > 1) moveCursor(stream, 0, 1 - rows);
    cursorTo(stream, 0);
    clearScreenDown(stream);
    this.#drawn = 0;
  }

  /** Draws nothing while `use` has the terminal, such as for a prompt. */
  async during<T>(use: () => Promise<T>): Promise<T> {
    this.#pauses++;
    this.erase();
    try {
      return await use();
    } finally {
      this.#pauses--;
    }
  }

  #begin(): void {
    this.#timer = setInterval(this.#draw, DRAW_MS).unref();
    this.#stream.on("resize", this.#draw);
    // Comes first, since a handler for one signal (`once`) is no longer counted when it has been called.
    for (const signal of SIGNALS) process.prependListener(signal, this.#onSignal);
    process.on("exit", this.#onExit);
  }

  #end(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#stream.off("resize", this.#draw);
    for (const signal of SIGNALS) process.off(signal, this.#onSignal);
    process.off("exit", this.#onExit);
    this.erase();
  }

  readonly #draw = (): void => {
    this.erase();
    const text = this.#texts.at(-1);
    if (text === undefined || this.#pauses > 0) return;
    // A line that fills the last column would break.
    const columns = Math.max(1, (this.#stream.columns || 80) - 1);
    const line = text(columns).slice(0, columns);
    this.#stream.write(line);
    this.#drawn = line.length;
  };

  readonly #onExit = (): void => {
    this.erase();
  };

  /** The signal ends the process as it would without this line, unless the command handles it. */
  readonly #onSignal = (signal: NodeJS.Signals): void => {
    this.erase();
    if (process.listenerCount(signal) > 1) return;
    process.off(signal, this.#onSignal);
    process.kill(process.pid, signal);
  };
}

/** The line on this process's standard error. */
export const liveLine = new LiveLine(process.stderr);
