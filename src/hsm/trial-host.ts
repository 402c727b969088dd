// One token host for the trials of a token report, and for a change of the PIN. It is opened and logged in step by step,
// since trials also run before the login, and it is not replaced when it ends. The plugin's own token hosts are in hosts/pool.ts.
import { KmsError } from "../errors.js";
import type { Log } from "../log.js";
import { killOnTimeout } from "./hosts/control-call.js";
import { HostProcess } from "./hosts/host-process.js";
import type { HostProcessOptions } from "./hosts/spawn-host.js";
import { Logins } from "./hosts/logins.js";
import { Starts } from "./hosts/starts.js";
import type { LoginGate } from "./login/login-gate.js";
import type { GenerateRequest, KekRecord, TestedRight, TokenDescription } from "./port.js";
import { Op, type ControlOp, type ControlReply, type ControlRequest } from "./wire-calls.js";
import { checkTrialReply } from "./wire-trial-replies.js";
import type { TrialName, TrialRequest, Trials } from "./wire-trials.js";

/** How to start the host, and its time limits. */
export interface TrialHostOptions {
  readonly host: HostProcessOptions;
  readonly gate: LoginGate;
  readonly startTimeoutMs: number;
  readonly log: Log;
}

const STOP_MS = 1_000;
/** Limit for one trial, in ms; a host that exceeds it is killed. */
const TRIAL_MS = 60_000;
/** Trials that search often: a search may take a token 20 s if it holds many objects. */
const SEARCHING_MS: Partial<Record<TrialName, number>> = {
  searches: 300_000,
  latencies: 300_000,
  remove: 600_000,
};

/** Runs trials in one token host. */
export class TrialHost {
  readonly #process: HostProcess;
  readonly #options: TrialHostOptions;
  #description: TokenDescription | undefined;
  #isLoggedIn = false;

  /** Starts the process. */
  constructor(options: TrialHostOptions) {
    this.#options = options;
    this.#process = new HostProcess(options.host, options.log);
  }

  get alive(): boolean {
    return this.#process.alive;
  }

  /** The token when it was opened, before the login. */
  get token(): TokenDescription {
    if (this.#description === undefined) throw new TypeError("the token host has not been opened");
    return this.#description;
  }

  /** Loads the module and finds the token, without a login. @throws KmsError */
  async open(): Promise<TokenDescription> {
    const { startTimeoutMs } = this.#options;
    return killOnTimeout(this.#process, startTimeoutMs, async () => {
      try {
        await this.#process.loaded();
        return (this.#description = await this.#process.open());
      } catch (error) {
        throw KmsError.from(error);
      }
    });
  }

  /**
   * Logs in unless this process is logged in, or needs no login and has no PIN. Spends at most one PIN attempt.
   * @throws KmsError
   */
  async login(): Promise<void> {
    const { first } = this.#process.lanes;
    if (first === undefined) return;
    const { gate, startTimeoutMs } = this.#options;
    const starts = new Starts(startTimeoutMs, () => undefined);
    const { loggedIn } = await new Logins(gate, starts, startTimeoutMs).login(this.#process, first);
    this.#isLoggedIn = loggedIn;
  }

  /** Whether `login` has left this process logged in. */
  get isLoggedIn(): boolean {
    return this.#isLoggedIn;
  }

  /**
   * Changes the PIN of the login to a new one. The caller zeroes both.
   * @throws KmsError; only a HostFailure of the class "setup" says that the PIN was not changed
   */
  async setPin(present: Uint8Array, fresh: Uint8Array): Promise<void> {
    const secret = Buffer.concat([present, fresh]);
    try {
      await killOnTimeout(this.#process, TRIAL_MS, () =>
        this.#process.control(Op.setPin, { presentBytes: present.length }, { secret }),
      );
    } finally {
      secret.fill(0);
    }
  }

  /** Opens another lane, and returns whether it is logged in without a login of its own. @throws KmsError */
  async laneIsLoggedIn(): Promise<boolean> {
    const { startTimeoutMs } = this.#options;
    return (await killOnTimeout(this.#process, startTimeoutMs, () => this.#process.openLane())).loggedIn;
  }

  /** Number of sessions of the lanes. */
  get sessions(): number {
    return this.#process.lanes.length;
  }

  /** Runs a trial and returns its reply. @throws KmsError */
  async trial<N extends TrialName>(trial: N, request: Trials[N]["request"]): Promise<Trials[N]["reply"]> {
    const sent = { trial, ...request } as TrialRequest;
    return checkTrialReply(trial, await this.#call(Op.trial, sent, SEARCHING_MS[trial]));
  }

  /** Makes a KEK under the report's label. @throws KmsError */
  generate(request: GenerateRequest, limitMs: number): Promise<KekRecord> {
    return this.#call(Op.generate, request, limitMs);
  }

  /** Tests what the login may do, with session objects only. @throws KmsError */
  testRights(): Promise<readonly TestedRight[]> {
    return this.#call(Op.rights, {});
  }

  /** Reads the KEKs of the host's object name. @throws KmsError */
  async listKeks(): Promise<readonly KekRecord[]> {
    for (let resume = false; ; resume = true) {
      const slice = await this.#call(Op.readKeks, { resume });
      if (slice.done) return slice.keks;
    }
  }

  /** Ends the process, which ends its sessions and their objects. */
  async stop(): Promise<void> {
    await this.#process.stop(STOP_MS);
  }

  /** Ends the process at once, even during a call. */
  kill(): void {
    this.#process.kill("stop");
  }

  #call<O extends ControlOp>(
    op: O,
    request: ControlRequest<O>,
    limitMs = TRIAL_MS,
  ): Promise<ControlReply<O>> {
    return killOnTimeout(this.#process, limitMs, () => this.#process.control(op, request));
  }
}
