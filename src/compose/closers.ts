// Closes the parts of the plugin in one explicit order, at a stop and after a start that failed. A part is registered
// when it is opened, so that exactly the open parts are closed. This file does not know what the parts are.

/** The parts, in the order in which they close. */
export const CLOSING_ORDER = [
  "watchdog",
  "unlock sockets",
  "server",
  "clusters",
  "working set",
  "approvals",
  "provider",
  "token hosts",
  "held PINs",
  "HTTP endpoints",
  "audit log",
  "tracing",
  "log output",
] as const;

/** The name of a part. */
export type PartName = (typeof CLOSING_ORDER)[number];

/** `isGraceful`: requests in progress may finish, and the stop is recorded; false after a start that failed. */
export type Close = (isGraceful: boolean) => void | Promise<void>;

/** Registers open parts and closes them in order. */
export class Closers {
  readonly #opened: { readonly part: PartName; readonly close: Close }[] = [];

  /** Registers a part that has just been opened. One name may stand for several parts. */
  add(part: PartName, close: Close): void {
    this.#opened.push({ part, close });
  }

  /** Closes the open parts. If one fails to close, the others still do; `onFailure` receives its error. */
  async closeAll(isGraceful: boolean, onFailure: (part: PartName, error: unknown) => void): Promise<void> {
    const opened = this.#opened.splice(0);
    for (const name of CLOSING_ORDER) {
      for (const { close } of opened.filter(({ part }) => part === name)) {
        try {
          await close(isGraceful);
        } catch (error) {
          onFailure(name, error);
        }
      }
    }
  }
}
