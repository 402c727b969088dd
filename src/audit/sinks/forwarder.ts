// Sends an audit log to one sink. Reads the lines from the file, with bounded memory, and no request waits for it. A line that
// the sink did not confirm is sent again, so a sink may get a line twice, but misses none that the file holds.
import { setImmediate as nextTurn, setTimeout as sleep } from "node:timers/promises";
import { backoffMs } from "../../backoff.js";
import type { Log } from "../../log.js";
import { readLinesAfter, type Batch, type ReadLine } from "./line-reader.js";
import { readPosition, writePosition, type Position } from "./position.js";
import type { OpenTransport, Transport } from "./transport.js";

/** A sink, as the forwarder uses it. */
export interface Sink {
  /** Its name in metrics and in the log. */
  readonly name: string;
  /** The audit log. */
  readonly file: string;
  /** Keeps the position of the last confirmed line. */
  readonly positionFile: string;
  readonly open: OpenTransport;
  readonly format: (line: ReadLine) => Buffer;
}

/** Intervals, in ms. */
export interface ForwarderTiming {
  /** Between two checks of the file for more lines; commands append to it, too. */
  readonly pollMs: number;
  /** Between two batches of lines, so that requests come first while a long log is sent. */
  readonly pauseMs: number;
  readonly firstRetryMs: number;
  readonly lastRetryMs: number;
  /** For the last lines at a stop. */
  readonly stopMs: number;
}

export const FORWARDER_TIMING: ForwarderTiming = {
  pollMs: 1_000,
  pauseMs: 5,
  firstRetryMs: 1_000,
  lastRetryMs: 60_000,
  stopMs: 2_000,
};

/** Sends an audit log to one sink until it is stopped. */
export class Forwarder {
  readonly #sink: Sink;
  readonly #log: Log;
  readonly #timing: ForwarderTiming;
  /** Aborted by stop(): only the remaining lines are sent. */
  readonly #ending = new AbortController();
  /** Aborted when the time for them is over. */
  readonly #stop = new AbortController();
  #confirmed: Position | undefined;
  #sent: Position | undefined;
  #transport: Transport | undefined;
  /** When the first unconfirmed message was sent, by the monotonic clock. */
  #unconfirmedSince: number | undefined;
  /** Time of the first unconfirmed line, by the clock. */
  #oldestLine: number | undefined;
  #failure: string | undefined;
  #failures = 0;
  #running: Promise<void> | undefined;
  #lines = 0;
  #missing = 0;
  #reportedAt: string | undefined;

  constructor(sink: Sink, log: Log, timing: Partial<ForwarderTiming> = {}) {
    this.#sink = sink;
    this.#log = log;
    this.#timing = { ...FORWARDER_TIMING, ...timing };
  }

  get name(): string {
    return this.#sink.name;
  }

  /** Whether the last attempt to send or confirm lines succeeded. */
  get up(): boolean {
    return this.#failure === undefined;
  }

  /** Age of the oldest line that the sink has not confirmed, in seconds; 0 if there is none. */
  get lagSeconds(): number {
    return this.#oldestLine === undefined ? 0 : Math.max(0, (Date.now() - this.#oldestLine) / 1000);
  }

  /** Number of lines sent, repetitions included. */
  get lines(): number {
    return this.#lines;
  }

  /** Number of lines that rotation removed before they could be sent. */
  get missing(): number {
    return this.#missing;
  }

  start(): void {
    this.#confirmed = this.#sent = readPosition(this.#sink.positionFile);
    this.#running ??= this.#run();
  }

  /** Sends the remaining lines, for at most `stopMs`. Those that stay unconfirmed are sent again after the next start. */
  async stop(): Promise<void> {
    this.#ending.abort();
    await Promise.race([this.#running, sleep(this.#timing.stopMs, undefined, { ref: false })]);
    this.#stop.abort();
    this.#transport?.close();
  }

  async #run(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      try {
        const isIdle = await this.#step();
        if (this.#oldestLine === undefined) this.#succeeded();
        if (isIdle && this.#isEnding && this.#unconfirmedSince === undefined) break;
        await this.#wait(isIdle ? this.#timing.pollMs : this.#timing.pauseMs);
      } catch (error) {
        this.#failed(error);
        if (this.#isEnding) break;
        const { firstRetryMs: firstMs, lastRetryMs: capMs } = this.#timing;
        await this.#wait(backoffMs(this.#failures, { firstMs, capMs }));
      }
    }
    this.#transport?.close();
  }

  /** Sends one batch, or confirms what was sent. Returns whether there is nothing to do now. */
  async #step(): Promise<boolean> {
    if (this.#transport?.failure !== undefined) throw this.#transport.failure;
    const batch = await readLinesAfter(this.#sink.file, this.#sent);
    this.#report(batch);
    if (batch.lines.length > 0) await this.#send(batch.lines);
    this.#sent = batch.end ?? this.#sent;
    const isIdle = batch.lines.length === 0;
    if (this.#isConfirmationDue(isIdle)) await this.#confirm();
    return isIdle;
  }

  async #send(lines: readonly ReadLine[]): Promise<void> {
    this.#oldestLine ??= timeOf(lines);
    this.#transport ??= await this.#sink.open(this.#stop.signal);
    await this.#transport.send(lines.map((line) => this.#sink.format(line)));
    this.#unconfirmedSince ??= performance.now();
    this.#lines += lines.length;
    await nextTurn();
  }

  get #isEnding(): boolean {
    return this.#ending.signal.aborted;
  }

  #isConfirmationDue(isIdle: boolean): boolean {
    if (this.#unconfirmedSince === undefined || this.#transport === undefined) return false;
    const isOld = performance.now() - this.#unconfirmedSince >= this.#transport.confirmAfterMs;
    // After a failure, only a confirmation shows that the sink reads again: the kernel accepts messages without a reader.
    return isOld || this.#failure !== undefined || (isIdle && this.#isEnding);
  }

  async #confirm(): Promise<void> {
    const until = this.#sent;
    const transport = this.#transport;
    if (transport === undefined || until === undefined) return;
    if (!(await transport.confirm())) {
      transport.close();
      this.#transport = undefined;
    }
    this.#confirmed = until;
    this.#unconfirmedSince = this.#oldestLine = undefined;
    await writePosition(this.#sink.positionFile, until);
  }

  /** Reports a gap before a batch once, however often the batch has to be sent. */
  #report({ missing, replaced, end }: Batch): void {
    const { name: sink, file } = this.#sink;
    if ((!replaced && missing === 0) || end?.tailDigest === this.#reportedAt) return;
    this.#reportedAt = end?.tailDigest;
    if (replaced) {
      this.#log.warn(
        { sink, file },
        "the audit log no longer contains the line that was sent last; the whole log is sent again",
      );
    }
    if (missing === 0) return;
    this.#missing += missing;
    this.#log.error(
      { sink, file, lines: missing },
      "audit lines were rotated away before they were sent to the sink",
    );
  }

  #failed(error: unknown): void {
    this.#transport?.close();
    this.#transport = undefined;
    this.#sent = this.#confirmed;
    this.#unconfirmedSince = undefined;
    this.#failures += 1;
    const { code, message } = error as NodeJS.ErrnoException;
    const reason = code ?? message;
    if (reason !== this.#failure && !this.#stop.signal.aborted) {
      const { name: sink, file } = this.#sink;
      this.#log.warn(
        { sink, file, err: error },
        "an audit sink does not accept lines; requests and the audit file are not affected",
      );
    }
    this.#failure = reason;
  }

  #succeeded(): void {
    if (this.#failure === undefined) return;
    this.#failure = undefined;
    this.#failures = 0;
    this.#log.info({ sink: this.#sink.name }, "the audit sink accepts lines again");
  }

  /** Waits for `ms`, or until the forwarder is stopped. */
  async #wait(ms: number): Promise<void> {
    const signal = this.#isEnding ? this.#stop.signal : this.#ending.signal;
    await sleep(this.#isEnding ? Math.min(ms, this.#timing.pauseMs) : ms, undefined, { signal }).catch(
      () => undefined,
    );
  }
}

function timeOf(lines: readonly ReadLine[]): number {
  const times = lines.map(({ fields }) => Date.parse(String(fields?.["time"])));
  return times.find((time) => !Number.isNaN(time)) ?? Date.now();
}
