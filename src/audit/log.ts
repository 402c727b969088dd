// Writes the serving plugin's audit log in the background, from a bounded buffer, so that no request waits for a disk.
// If the log cannot be written, requests continue, and the log and the metrics report it. Events that did not fit into
// the buffer are recorded later as a "gap" line in their position.
import { setTimeout as sleep } from "node:timers/promises";
import type { Log } from "../log.js";
import { AuditWriter, type AuditSettings } from "./writer.js";
import type { AuditEvent, TimedEvent } from "./line.js";

/** Intervals and limits of writing, in ms. */
export interface AuditTiming {
  /** Time for which an event may wait so that others are written with it, in ms. */
  readonly flushMs: number;
  readonly firstRetryMs: number;
  readonly lastRetryMs: number;
  /** Maximum time for which stop() waits until the buffer is written, in ms. */
  readonly stopMs: number;
}

const TIMING: AuditTiming = { flushMs: 250, firstRetryMs: 1_000, lastRetryMs: 30_000, stopMs: 3_000 };
const MAX_BUFFERED = 10_000;
/** Lines per write: computing their MACs occupies the event loop for about 2 ms. */
const BATCH = 256;

interface Gap {
  lost: number;
  readonly since: number;
  readonly reason: string;
}

/** Buffers events and writes them to the audit log. */
export class AuditLog {
  #file: AuditWriter;
  #path: string;
  readonly #log: Log;
  readonly #timing: AuditTiming;
  readonly #buffer: TimedEvent[] = [];
  #gap: Gap | undefined;
  #failure: string | undefined;
  #retryMs: number;
  #flushing: Promise<void> | undefined;
  #stopped = false;
  readonly #woken = new AbortController();
  #written = 0;
  #lost = 0;

  constructor(settings: AuditSettings, log: Log, timing: Partial<AuditTiming> = {}) {
    this.#log = log;
    this.#file = this.#writerOf(settings);
    this.#path = settings.file;
    this.#timing = { ...TIMING, ...timing };
    this.#retryMs = this.#timing.firstRetryMs;
  }

  /** Writes to these files from the next write on. Buffered events go there too. */
  redirect(settings: AuditSettings): void {
    this.#file = this.#writerOf(settings);
    this.#path = settings.file;
    this.#retryMs = this.#timing.firstRetryMs;
  }

  #writerOf(settings: AuditSettings): AuditWriter {
    return new AuditWriter(settings, (text) => {
      this.#log.warn({ file: settings.file, keyFile: settings.keyFile }, text);
    });
  }

  /** Whether the last write succeeded. */
  get up(): boolean {
    return this.#failure === undefined;
  }

  get buffered(): number {
    return this.#buffer.length;
  }

  get written(): number {
    return this.#written;
  }

  get lost(): number {
    return this.#lost;
  }

  /** Buffers an event. Never throws and never waits. */
  record(event: AuditEvent): void {
    const time = Date.now();
    if (this.#buffer.length >= MAX_BUFFERED) {
      this.#gap ??= { lost: 0, since: time, reason: this.#failure ?? "too many events at once" };
      this.#gap.lost += 1;
      this.#lost += 1;
      return;
    }
    this.#recordGap();
    this.#buffer.push({ time, event });
    this.#flushing ??= this.#flush();
  }

  /** Writes the buffered events as far as possible within `stopMs`, and logs how many were lost. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#woken.abort();
    await Promise.race([this.#flushing, sleep(this.#timing.stopMs, undefined, { ref: false })]);
    const lost = this.#buffer.length + (this.#gap?.lost ?? 0);
    if (lost > 0) {
      this.#log.error({ file: this.#path, lost }, "audit events were lost when the plugin stopped");
    }
  }

  /** Records a gap in the position of the lost events. */
  #recordGap(): void {
    const gap = this.#gap;
    if (gap === undefined) return;
    this.#gap = undefined;
    const since = new Date(gap.since).toISOString();
    const { lost, reason } = gap;
    this.#buffer.push({ time: Date.now(), event: { event: "gap", lost, since, reason } });
  }

  async #flush(): Promise<void> {
    await this.#wait(this.#timing.flushMs);
    while (this.#buffer.length > 0) {
      const batch = this.#buffer.slice(0, BATCH);
      try {
        await this.#file.append(batch);
      } catch (error) {
        this.#failed(error);
        if (this.#stopped) break;
        await this.#wait(this.#retryMs);
        this.#retryMs = Math.min(2 * this.#retryMs, this.#timing.lastRetryMs);
        continue;
      }
      this.#buffer.splice(0, batch.length);
      this.#written += batch.length;
      if (this.#buffer.length === 0) this.#recordGap();
      this.#succeeded();
    }
    // Not after the promise has settled: an event recorded in between would wait for the next one.
    this.#flushing = undefined;
  }

  #failed(error: unknown): void {
    const reason = (error as NodeJS.ErrnoException).code ?? String(error);
    if (reason !== this.#failure) {
      this.#log.error({ err: error, file: this.#path }, "the audit log cannot be written; requests continue");
    }
    this.#failure = reason;
  }

  #succeeded(): void {
    if (this.#failure === undefined) return;
    this.#failure = undefined;
    this.#retryMs = this.#timing.firstRetryMs;
    this.#log.info({ file: this.#path, lost: this.#lost }, "the audit log can be written again");
  }

  /** Waits for `ms`, or until the log stops. */
  async #wait(ms: number): Promise<void> {
    await sleep(ms, undefined, { signal: this.#woken.signal }).catch(() => undefined);
  }
}
