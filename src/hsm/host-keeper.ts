// Keeps one token host alive: starts it, logs it in, proves it by a reading of the keyring, waits for its
// end, and starts the next with capped backoff. What it has kept is either a ready host or the reason why
// there is none.
import { KmsError } from "../errors.js";
import type { Log } from "../log.js";
import { backoffMs } from "./backoff.js";
import type { PinGate } from "./pin-gate.js";
import { TokenHost, within, type EndCause, type TokenHostOptions } from "./token-host.js";
import { Op, type KekRecord, type TokenDescription } from "./wire.js";

export interface KeeperOptions {
  readonly host: TokenHostOptions;
  readonly gate: PinGate;
  /** Time for loading the module, logging in and reading the keyring, in ms. */
  readonly startTimeoutMs: number;
  readonly log: Log;
  readonly onReady: () => void;
  readonly onEnded: (cause: EndCause) => void;
}

/** After a host that died. */
const BACKOFF = { firstMs: 200, capMs: 30_000 };
/** After a start that failed with an answer: a token that is away should be found again soon after it is back. */
const AWAY_BACKOFF = { firstMs: 200, capMs: 5_000 };
/** A host that was ready for this long starts its successor's backoff anew. */
const STABLE_MS = 10_000;
const PIN_POLL_MS = 1_000;

export class HostKeeper {
  readonly #options: KeeperOptions;
  #host: TokenHost | undefined;
  #prepared: TokenHost | undefined;
  #ready: TokenHost | undefined;
  #token: TokenDescription | undefined;
  #reason: KmsError | undefined;
  #failures = 0;
  #stopped = false;
  #wake: () => void = () => undefined;

  constructor(options: KeeperOptions) {
    this.#options = options;
  }

  /** The host that may be given requests. */
  get ready(): TokenHost | undefined {
    return this.#ready?.alive === true ? this.#ready : undefined;
  }

  get token(): TokenDescription | undefined {
    return this.#token;
  }

  /** Why there is no ready host; undefined while one is being started that has not failed yet. */
  get reason(): KmsError | undefined {
    return this.ready === undefined ? this.#reason : undefined;
  }

  /** Starts the first process ahead of `run`: it loads its packages, and opens no token. */
  prepare(): void {
    try {
      this.#host = this.#prepared = new TokenHost(this.#options.host, this.#options.log);
    } catch {
      // What keeps it from starting is told when `run` tries again.
    }
  }

  /** Starts hosts until it is stopped. @param mayStart resolves when this keeper may make its first attempt */
  async run(mayStart: () => Promise<void>): Promise<void> {
    while (!this.#stopped) {
      await mayStart();
      if (this.#isStopped()) return;
      const cause = await this.#live();
      if (this.#isStopped()) return;
      await this.#pause(backoffMs(this.#failures, cause === "start" ? AWAY_BACKOFF : BACKOFF));
    }
  }

  async stop(graceMs: number): Promise<void> {
    this.#stopped = true;
    this.#wake();
    await this.#host?.stop(graceMs);
  }

  /** Logs a host in that the token has logged out. */
  async loginAgain(host: TokenHost): Promise<void> {
    const { gate, startTimeoutMs } = this.#options;
    const control = (op: Op, secret?: Uint8Array): Promise<unknown> =>
      within(host, startTimeoutMs, () => host.control(op, {}, secret));
    await gate.login(
      async () => (this.#token = (await control(Op.describe)) as TokenDescription),
      async (pin) => {
        await control(Op.login, pin);
      },
    );
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

  #spawn(): TokenHost | undefined {
    try {
      return new TokenHost(this.#options.host, this.#options.log);
    } catch (error) {
      this.#reason = spawnFailure(error);
      this.#failures++;
      this.#options.log.warn({ failures: this.#failures, err: this.#reason }, "token host not started");
      this.#options.onEnded("start");
      return undefined;
    }
  }

  async #start(host: TokenHost): Promise<void> {
    await within(host, this.#options.startTimeoutMs, async () => {
      this.#token = await host.open();
      if (!this.#token.loggedIn) await this.loginAgain(host);
      const keks = (await host.control(Op.listKeks, {})) as KekRecord[];
      this.#ready = host;
      this.#reason = undefined;
      this.#options.log.info(
        { pid: host.pid, token: this.#token.label, keks: keks.length },
        "token host ready",
      );
      this.#options.onReady();
    });
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
