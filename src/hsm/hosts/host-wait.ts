// Waits for a token host: until one is ready that the caller accepts, a start has failed, or no start has made progress
// for too long. The pool reports every change of its hosts here.
import { EventEmitter, once } from "node:events";
import type { HostProcess } from "./host-process.js";
import type { AcceptsHost } from "./reading-hosts.js";
import type { Starts } from "./starts.js";
import type { FailedStart } from "./supervisor.js";

/** The hosts of a pool, and how their starts proceed. */
export interface HostWaitOptions {
  /** Returns the hosts that may be given requests, the serving one first. */
  readonly ready: () => readonly HostProcess[];
  /** Returns the last start of every host that is not ready, if that start failed. */
  readonly failedStarts: () => readonly FailedStart[];
  readonly starts: Pick<Starts, "progressAt">;
  /** Longest wait without progress of any start, in ms. */
  readonly startTimeoutMs: number;
}

/** Waits for the hosts of one pool. */
export class HostWait {
  readonly #options: HostWaitOptions;
  /** Emits "change" when a host has become ready or has ended, when a start is late, and at the stop. */
  readonly #events = new EventEmitter().setMaxListeners(0);
  #isStopped = false;

  constructor(options: HostWaitOptions) {
    this.#options = options;
  }

  /** Makes every wait check the hosts again. */
  noteChange(): void {
    this.#events.emit("change");
  }

  /** Ends every wait. */
  stop(): void {
    this.#isStopped = true;
    this.noteChange();
  }

  /** Waits for the next change. @throws AbortError when the signal aborts */
  async nextChange(signal: AbortSignal): Promise<void> {
    await once(this.#events, "change", { signal });
  }

  /**
   * Waits for a ready host that `wanted` accepts and returns it; undefined if a start has failed, or none has made
   * progress for `startTimeoutMs`.
   * @param loadedSince failures of starts that loaded the library before this time do not count; by performance.now()
   */
  async whenReady(wanted: AcceptsHost, loadedSince = -Infinity): Promise<HostProcess | undefined> {
    const { ready, failedStarts, starts, startTimeoutMs } = this.#options;
    const begunAt = performance.now();
    for (;;) {
      const host = ready().find(wanted);
      const leftMs = Math.max(begunAt, starts.progressAt) + startTimeoutMs - performance.now();
      const hasFailed = failedStarts().some(({ openedAt }) => openedAt >= loadedSince);
      if (host !== undefined || leftMs <= 0 || hasFailed || this.#isStopped) return host;
      await this.#changeOrTimeout(leftMs);
    }
  }

  async #changeOrTimeout(ms: number): Promise<void> {
    const over = new AbortController();
    const timer = setTimeout(() => {
      over.abort();
    }, ms);
    await this.nextChange(over.signal).catch(() => undefined);
    clearTimeout(timer);
  }
}
