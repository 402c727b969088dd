// Keeps one token host running: starts it, logs it in, has it find the KEKs, waits for its end, and starts the next
// after a capped backoff. At any time it has either a ready host or the reason why it has none. Which host gets
// which request is not decided here.
import { setTimeout as sleep } from "node:timers/promises";
import { KmsError } from "../../errors.js";
import type { Log } from "../../log.js";
import { backoffMs, type BackoffLimits } from "../../backoff.js";
import type { Logins } from "./logins.js";
import type { LoginGate } from "../login/login-gate.js";
import type { RunStep, Starts } from "./starts.js";
import { HostProcess, type EndCause } from "./host-process.js";
import type { HostProcessOptions } from "./spawn-host.js";
import type { KekRecord, TokenDescription } from "../port.js";
import type { KekNames } from "../wire-calls.js";

/** How to start and log in one token host, and when it may start. */
export interface SupervisorOptions {
  readonly host: HostProcessOptions;
  readonly gate: LoginGate;
  readonly logins: Logins;
  readonly starts: Starts;
  /** Returns whether a host may be started now. */
  readonly mayStart: () => boolean;
  /** Returns whether a host that starts now will serve as soon as it is ready, because no other one does. */
  readonly servesFirst: () => boolean;
  /** Resolves when the answer of `mayStart` may have changed; rejects when the signal aborts. */
  readonly nextChange: (signal: AbortSignal) => Promise<unknown>;
  /** Makes sure that a host finds the KEKs before it is ready, in steps of the start. */
  readonly readFirst: (host: HostProcess, step: RunStep) => Promise<readonly KekRecord[]>;
  readonly log: Log;
  readonly onReady: (host: HostProcess) => void;
  readonly onEnded: (cause: EndCause) => void;
}

/** A start that failed. */
export interface FailedStart {
  readonly reason: KmsError;
  /** When it began to load the library, by performance.now(); Infinity if it did not get that far. */
  readonly openedAt: number;
}

/** Backoff after a host died. */
const CRASH_BACKOFF: BackoffLimits = { firstMs: 200, capMs: 30_000 };
/** Backoff after an error of the token: a token that returns should be found soon. */
const AWAY_BACKOFF: BackoffLimits = { firstMs: 200, capMs: 5_000 };
/** Backoff after a call that hung, since waiting for it has already cost time. */
const HANG_BACKOFF: BackoffLimits = { firstMs: 200, capMs: 400 };
const BACKOFF: Readonly<Record<EndCause, BackoffLimits>> = {
  exit: CRASH_BACKOFF,
  signal: CRASH_BACKOFF,
  protocol: CRASH_BACKOFF,
  start: AWAY_BACKOFF,
  device: AWAY_BACKOFF,
  hang: HANG_BACKOFF,
  reload: HANG_BACKOFF,
  stop: HANG_BACKOFF,
};
/** Time after which a ready host counts as stable, in ms: its end is not another failure in a row. */
const STABLE_MS = 10_000;
/** Interval of checks whether a refused PIN has been replaced. */
const PIN_POLL_MS = 250;

/** Keeps one token host running and replaces it when it ends. */
export class Supervisor {
  readonly #options: SupervisorOptions;
  /** The last host that was started, running or not. */
  #host: HostProcess | undefined;
  #prepared: HostProcess | undefined;
  #ready: HostProcess | undefined;
  #token: TokenDescription | undefined;
  #failed: FailedStart | undefined;
  #failures = 0;
  #isWaitingForTurn = false;
  /** Processes that the kernel keeps after SIGKILL. */
  #lingering: HostProcess[] = [];

  constructor(options: SupervisorOptions) {
    this.#options = options;
  }

  /** The host that may be given requests. */
  get ready(): HostProcess | undefined {
    return this.#ready?.alive === true ? this.#ready : undefined;
  }

  /** The token as described when a host last opened it or logged in. */
  get token(): TokenDescription | undefined {
    return this.#token;
  }

  /** The last start, if it failed; undefined if a host is ready, before the first failure, and while waiting for a turn. */
  get failedStart(): FailedStart | undefined {
    return this.ready === undefined && !this.#isWaitingForTurn ? this.#failed : undefined;
  }

  /** Spawns the first process before `run`, so that it loads its packages; it does not open the token yet. */
  prepare(): void {
    try {
      this.#host = this.#prepared = new HostProcess(this.#options.host, this.#options.log);
    } catch {
      // `run` tries again and reports what prevents it.
    }
  }

  /** Has the host, running or starting, know of these KEKs. */
  setKeks(names: KekNames): void {
    this.#host?.setKeks(names);
  }

  /** Keeps a host running until the signal aborts; `stop` then ends the last one. */
  async run(signal: AbortSignal): Promise<void> {
    const { mayStart, nextChange } = this.#options;
    try {
      for (;;) {
        while (!mayStart()) {
          this.#isWaitingForTurn = true;
          await nextChange(signal);
        }
        this.#isWaitingForTurn = false;
        signal.throwIfAborted();
        const cause = await this.#runHost(signal);
        await sleep(this.#backoffMs(cause), undefined, { signal });
      }
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }

  /** Ends the host; while the signal of `run` has not aborted, another one starts. @param graceMs for closing its sessions */
  async stop(graceMs: number): Promise<void> {
    await this.#host?.stop(graceMs);
  }

  /** Starts a host and waits for its end. Returns why it ended. */
  async #runHost(signal: AbortSignal): Promise<EndCause> {
    const host = this.#prepared ?? this.#spawn();
    this.#prepared = undefined;
    if (host === undefined) return "start";
    this.#host = host;
    const stampBefore = this.#options.gate.stamp;
    try {
      await this.#start(host);
    } catch (error) {
      const reason = host.pid === undefined ? spawnFailure(error) : KmsError.from(error);
      this.#failed = { reason, openedAt: host.openedAt };
      host.kill("start");
    }
    const readySince = performance.now();
    const cause = await host.ended;
    const wasReady = this.#ready === host;
    this.#ready = undefined;
    const wasStable = cause === "reload" || performance.now() - readySince > STABLE_MS;
    this.#failures = wasReady && wasStable ? 0 : this.#failures + 1;
    if (cause === "stop") return cause;
    this.#reportEnd(host, cause);
    if (!wasReady) await this.#waitForNewPin(stampBefore, signal);
    return cause;
  }

  #spawn(): HostProcess | undefined {
    try {
      return new HostProcess(this.#options.host, this.#options.log);
    } catch (error) {
      const reason = spawnFailure(error);
      this.#failed = { reason, openedAt: Infinity };
      this.#failures++;
      this.#options.log.warn({ failures: this.#failures, err: reason }, "token host not started");
      this.#options.onEnded("start");
      return undefined;
    }
  }

  async #start(host: HostProcess): Promise<void> {
    const { starts, logins, log, onReady, readFirst, servesFirst } = this.#options;
    await starts.run(host, async (step) => {
      await step("spawn", () => host.loaded());
      this.#token = await step("open", () => host.open());
      if (servesFirst()) host.prepareGrowth();
      const lane = host.lanes.first;
      if (!this.#token.loggedIn && lane !== undefined) this.#token = await logins.login(host, lane);
      const keks = await readFirst(host, step);
      this.#ready = host;
      this.#failed = undefined;
      const token = this.#token.label;
      log.info({ pid: host.pid, token, keks: keks.length }, "token host ready");
      onReady(host);
    });
  }

  #reportEnd(host: HostProcess, cause: EndCause): void {
    const { log, onEnded } = this.#options;
    onEnded(cause);
    log[cause === "reload" ? "info" : "warn"](
      { pid: host.pid, cause, failures: this.#failures, err: this.#failed?.reason },
      "token host ended",
    );
  }

  /** Processes that the kernel keeps must not accumulate: each one delays the next start. */
  #backoffMs(cause: EndCause): number {
    this.#lingering = [...this.#lingering, ...(this.#host === undefined ? [] : [this.#host])].filter(
      (host) => !host.hasExited,
    );
    return Math.max(
      backoffMs(this.#failures, BACKOFF[cause]),
      backoffMs(2 * this.#lingering.length, CRASH_BACKOFF),
    );
  }

  /**
   * Waits until the source of a PIN that was refused or cannot be read has changed. Ends after a while in any case,
   * since the token's security officer may have unlocked the token.
   */
  async #waitForNewPin(stamp: string, signal: AbortSignal): Promise<void> {
    const code = this.#failed?.reason.code;
    if (code !== "PIN_REFUSED" && code !== "PIN_UNREADABLE") return;
    const { gate } = this.#options;
    const until = performance.now() + gate.recheckMs;
    while (!gate.mayTryAgain(stamp) && performance.now() < until) {
      await sleep(Math.min(PIN_POLL_MS, gate.recheckMs), undefined, { signal });
    }
    this.#failures = 0;
  }
}

function spawnFailure(error: unknown): KmsError {
  const why = error instanceof Error ? error.message : "unknown error";
  const text = `cannot start a token host (${why}); free memory, processes or file descriptors`;
  return new KmsError("HSM_UNAVAILABLE", text, error);
}
