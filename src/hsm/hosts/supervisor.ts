// Keeps one token host alive: starts it, logs it in, proves it by a reading of the keyring, waits for its
// end, and starts the next with capped backoff. What it has kept is either a ready host or the reason why
// there is none.
import { KmsError } from "../../errors.js";
import type { Log } from "../../log.js";
import { backoffMs, type BackoffLimits } from "../../backoff.js";
import type { Logins } from "./logins.js";
import type { LoginGate } from "../login/login-gate.js";
import type { RunStep, Starts } from "./starts.js";
import { HostProcess, type EndCause, type HostProcessOptions } from "./host-process.js";
import type { TokenDescription } from "../port.js";
import type { TokenKeys } from "../wire-calls.js";

export interface SupervisorOptions {
  readonly host: HostProcessOptions;
  readonly gate: LoginGate;
  readonly logins: Logins;
  readonly starts: Starts;
  /** Reads the keyring on a host that is not ready yet, in steps of the start. */
  readonly readFirst: (host: HostProcess, step: RunStep) => Promise<TokenKeys>;
  readonly log: Log;
  readonly onReady: (host: HostProcess) => void;
  readonly onEnded: (cause: EndCause) => void;
}

/** After a host that died. */
const CRASH_BACKOFF: BackoffLimits = { firstMs: 200, capMs: 30_000 };
/** After an error of the token: a token that returns should be found soon. */
const AWAY_BACKOFF: BackoffLimits = { firstMs: 200, capMs: 5_000 };
/** After a call that hung: waiting for it has slowed things down already. */
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
/** A host that was ready for this long starts its successor's backoff anew. */
const STABLE_MS = 10_000;
const PIN_POLL_MS = 1_000;

export class Supervisor {
  readonly #options: SupervisorOptions;
  #host: HostProcess | undefined;
  #prepared: HostProcess | undefined;
  #ready: HostProcess | undefined;
  #token: TokenDescription | undefined;
  #reason: KmsError | undefined;
  #failures = 0;
  /** Waits for its turn to start a host. */
  #idle = false;
  /** Processes that the kernel keeps after SIGKILL. */
  #lingering: HostProcess[] = [];
  #stopped = false;
  #wake: () => void = () => undefined;

  constructor(options: SupervisorOptions) {
    this.#options = options;
  }

  /** The host that may be given requests. */
  get ready(): HostProcess | undefined {
    return this.#ready?.alive === true ? this.#ready : undefined;
  }

  get token(): TokenDescription | undefined {
    return this.#token;
  }

  /** Why there is no ready host; undefined while one is being started that has not failed yet. */
  get reason(): KmsError | undefined {
    return this.ready === undefined && !this.#idle ? this.#reason : undefined;
  }

  /** Starts the first process ahead of `run`: it loads its packages, and opens no token. */
  prepare(): void {
    try {
      this.#host = this.#prepared = new HostProcess(this.#options.host, this.#options.log);
    } catch {
      // What keeps it from starting is told when `run` tries again.
    }
  }

  /** Starts hosts until it is stopped. @param mayStart undefined when it may start one now, else resolves then */
  async run(mayStart: () => Promise<void> | undefined): Promise<void> {
    while (!this.#stopped) {
      const turn = mayStart();
      this.#idle = turn !== undefined;
      await turn;
      this.#idle = false;
      if (this.#isStopped()) return;
      const cause = await this.#live();
      if (this.#isStopped()) return;
      await this.#pause(this.#backoffMs(cause));
    }
  }

  async stop(graceMs: number): Promise<void> {
    this.#stopped = true;
    this.#wake();
    await this.#host?.stop(graceMs);
  }

  /** One host from spawn to exit. */
  async #live(): Promise<EndCause> {
    const host = this.#prepared ?? this.#spawn();
    this.#prepared = undefined;
    if (host === undefined) return "start";
    this.#host = host;
    const stampBefore = this.#options.gate.stamp;
    try {
      await this.#start(host);
    } catch (error) {
      this.#reason = host.pid === undefined ? spawnFailure(error) : KmsError.from(error);
      host.kill("start");
    }
    const readySince = performance.now();
    const cause = await host.ended;
    const wasReady = this.#ready === host;
    this.#ready = undefined;
    const wasWell = cause === "reload" || performance.now() - readySince > STABLE_MS;
    this.#failures = wasReady && wasWell ? 0 : this.#failures + 1;
    if (cause === "stop") return cause;
    this.#options.onEnded(cause);
    const { log } = this.#options;
    log[cause === "reload" ? "info" : "warn"](
      { pid: host.pid, cause, failures: this.#failures, err: this.#reason },
      "token host ended",
    );
    if (!wasReady) await this.#waitForPin(stampBefore);
    return cause;
  }

  #spawn(): HostProcess | undefined {
    try {
      return new HostProcess(this.#options.host, this.#options.log);
    } catch (error) {
      this.#reason = spawnFailure(error);
      this.#failures++;
      this.#options.log.warn({ failures: this.#failures, err: this.#reason }, "token host not started");
      this.#options.onEnded("start");
      return undefined;
    }
  }

  async #start(host: HostProcess): Promise<void> {
    const { starts, logins, log, onReady, readFirst } = this.#options;
    await starts.run(host, async (step) => {
      this.#token = await step("open", () => host.open());
      const lane = host.lanes.first;
      if (!this.#token.loggedIn && lane !== undefined) this.#token = await logins.login(host, lane);
      const { keks, objects } = await readFirst(host, step);
      this.#ready = host;
      this.#reason = undefined;
      const token = this.#token.label;
      log.info({ pid: host.pid, token, keks: keks.length, objects }, "token host ready");
      onReady(host);
    });
  }

  /** Processes that the kernel keeps must not add up: each one delays the next start. */
  #backoffMs(cause: EndCause): number {
    this.#lingering = [...this.#lingering, ...(this.#host === undefined ? [] : [this.#host])].filter(
      (host) => !host.gone,
    );
    return Math.max(
      backoffMs(this.#failures, BACKOFF[cause]),
      backoffMs(2 * this.#lingering.length, CRASH_BACKOFF),
    );
  }

  /**
   * A PIN that was refused or cannot be read is tried again only when its source has changed. The token is
   * looked at again now and then all the same: its security officer may have unlocked it.
   */
  async #waitForPin(stamp: string): Promise<void> {
    const code = this.#reason?.code;
    if (code !== "PIN_REFUSED" && code !== "PIN_UNREADABLE") return;
    const { gate } = this.#options;
    const until = performance.now() + gate.recheckMs;
    while (!this.#isStopped() && !gate.mayTryAgain(stamp) && performance.now() < until) {
      await this.#pause(Math.min(PIN_POLL_MS, gate.recheckMs));
    }
    this.#failures = 0;
  }

  /** A getter would be narrowed away by the compiler across an await. */
  #isStopped(): boolean {
    return this.#stopped;
  }

  async #pause(ms: number): Promise<void> {
    if (ms <= 0 || this.#stopped) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

/** No process could be had: no descriptors, processes or memory are left. */
function spawnFailure(error: unknown): KmsError {
  const why = error instanceof Error ? error.message : "unknown error";
  const text = `cannot start a token host (${why}); free memory, processes or file descriptors`;
  return new KmsError("HSM_UNAVAILABLE", text, error);
}
