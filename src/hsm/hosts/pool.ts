// Manages the token hosts of one token, one serving and the others warm: their start and replacement, and control calls
// to them. The dispatcher decides which host gets which request.
import { KmsError } from "../../errors.js";
import type { Log } from "../../log.js";
import { Supervisor, type FailedStart } from "./supervisor.js";
import { HostWait } from "./host-wait.js";
import type { ReadingHosts } from "./reading-hosts.js";
import type { DatedKeks } from "./first-reading.js";
import { KeyringReadings } from "./readings.js";
import type { LaneClient } from "./lane-client.js";
import { Logins } from "./logins.js";
import type { LoginGate } from "../login/login-gate.js";
import type { HsmState, KekRecord, TokenDescription } from "../port.js";
import { LEAST_SUPERVISORS, StartOrder } from "./start-order.js";
import { Starts } from "./starts.js";
import { Controls } from "./controls.js";
import type { EndCause, HostProcess } from "./host-process.js";
import type { HostProcessOptions } from "./spawn-host.js";
import { Op, type ControlOp, type ControlReply, type ControlRequest, type KekNames } from "../wire-calls.js";

/** The token hosts of one token: how to start them, how many, and their time limits. */
export interface HostPoolOptions {
  readonly host: HostProcessOptions;
  readonly hosts: number;
  readonly gate: LoginGate;
  /** Limit for loading the module, for logging in, and for reading the keyring without progress, in ms. */
  readonly startTimeoutMs: number;
  /** Limit for a control call, in ms. */
  readonly controlTimeoutMs: number;
  readonly onEnded: (cause: EndCause) => void;
  /** Called when a host has become ready, has ended, or has finished a control call. */
  readonly onChange: () => void;
  readonly log: Log;
}

/** Keeps the token hosts of one token running and makes control calls to them. */
export class HostPool {
  readonly #options: HostPoolOptions;
  readonly #supervisors: readonly Supervisor[];
  readonly #starts: Starts;
  readonly #order: StartOrder;
  readonly #logins: Logins;
  readonly controls: Controls;
  readonly #readings: KeyringReadings;
  readonly #wait: HostWait;
  readonly #stopping = new AbortController();

  constructor(options: HostPoolOptions) {
    this.#options = options;
    this.#starts = new Starts(options.startTimeoutMs, () => {
      this.#changed();
    });
    this.#order = new StartOrder(options.hosts, this.#starts, () => {
      this.#changed();
    });
    this.#wait = new HostWait({
      ready: () => this.ready,
      failedStarts: () => this.#failedStarts,
      starts: this.#starts,
      startTimeoutMs: options.startTimeoutMs,
    });
    this.#logins = new Logins(options.gate, this.#starts, options.startTimeoutMs);
    this.controls = new Controls({
      logins: this.#logins,
      limitMs: options.controlTimeoutMs,
      onDone: () => {
        this.#order.noteCall();
        options.onChange();
      },
      log: options.log,
    });
    // With one host configured, the second supervisor only starts a host beside a start that hangs.
    const supervisors = Math.max(options.hosts, LEAST_SUPERVISORS);
    this.#supervisors = Array.from({ length: supervisors }, (_, index) => this.#supervisor(index));
    this.#readings = new KeyringReadings(this.#readingHosts(), options);
  }

  prepare(): void {
    this.#supervisors[0]?.prepare();
  }

  start(): void {
    for (const supervisor of this.#supervisors) void supervisor.run(this.#stopping.signal);
  }

  async stop(graceMs: number): Promise<void> {
    this.#stopping.abort();
    this.#order.stop();
    this.#wait.stop();
    await this.replace(graceMs);
  }

  /** Ends every host; until `stop`, others start in their places and log in again. @param graceMs for closing sessions */
  async replace(graceMs: number): Promise<void> {
    await Promise.all(this.#supervisors.map((supervisor) => supervisor.stop(graceMs)));
  }

  /** Replaces the names of the KEKs on the token; readings that begin later show these. */
  setKeks(names: KekNames): void {
    Object.assign(this.#options.host.open, { ckaId: undefined, others: undefined }, names);
    this.#readings.forgetFirst();
    for (const supervisor of this.#supervisors) supervisor.setKeks(names);
  }

  /** Hosts that may be given requests, the serving one first. */
  get ready(): readonly HostProcess[] {
    return this.#supervisors.flatMap((supervisor) => supervisor.ready ?? []);
  }

  /** Why the last start failed; undefined if none has failed since a host was ready. */
  get reason(): KmsError | undefined {
    return this.#failedStarts[0]?.reason;
  }

  get #failedStarts(): readonly FailedStart[] {
    return this.#supervisors.flatMap(({ failedStart }) => failedStart ?? []);
  }

  get state(): HsmState {
    if (this.ready.length === 0) return { up: false, reason: this.reason };
    const { finding } = this.#readings;
    return { up: true, ...(finding !== undefined && { finding }) };
  }

  get token(): TokenDescription | undefined {
    return this.#supervisors.find((supervisor) => supervisor.token !== undefined)?.token;
  }

  /**
   * Makes a call on the serving host.
   * @param limitMs returns the limit when the call begins; `controlTimeoutMs` if omitted
   * @throws KmsError, such as why no host is ready
   */
  async control<O extends ControlOp>(
    op: O,
    request: ControlRequest<O>,
    limitMs?: () => number,
  ): Promise<ControlReply<O>> {
    return this.controls.call(await this.#serving(), op, request, limitMs);
  }

  /**
   * Makes a call that changes nothing on the token; repeats it on the next host if the serving host does not survive
   * it.
   * @throws KmsError
   */
  async read<O extends ControlOp>(op: O, request: ControlRequest<O>): Promise<ControlReply<O>> {
    const host = await this.#serving();
    try {
      return await this.controls.call(host, op, request);
    } catch (error) {
      const [other] = this.ready;
      if (host.alive || other === undefined) throw error;
      return this.controls.call(other, op, request);
    }
  }

  /** Reads the keyring on one host and returns it, then the others in the background, as `KeyringReadings.read`. */
  listKeks(maxAgeMs: number): Promise<DatedKeks> {
    return this.#readings.read(maxAgeMs);
  }

  /** Reads the keyring on a host that loads the library after this call. @throws KmsError */
  listKeksReloaded(): Promise<readonly KekRecord[]> {
    return this.#readings.readReloaded();
  }

  /** Logs in a lane that reported being logged out. @throws KmsError */
  async loginAgain(host: HostProcess, lane: LaneClient): Promise<void> {
    await this.#logins.login(host, lane);
  }

  /** Records that a call of a proof has ended. */
  noteProof(): void {
    this.#order.noteCall();
  }

  /** Begins to open another session on a slow serving host. @param queued number of queued requests; then only if any waits */
  grow(queued?: number): void {
    const [host] = this.ready;
    if (host === undefined || (queued !== undefined && !host.noteWaiting(queued))) return;
    host.grow({
      limitMs: this.#options.controlTimeoutMs,
      login: (lane) => this.loginAgain(host, lane),
      onOpened: () => {
        this.#changed();
      },
    });
  }

  #supervisor(index: number): Supervisor {
    const { host, gate, log, onEnded, hosts } = this.#options;
    return new Supervisor({
      host,
      gate,
      logins: this.#logins,
      starts: this.#starts,
      mayStart: () => this.#order.mayStart(index, this.ready.length),
      servesFirst: () => this.ready.length === 0,
      nextChange: (signal) => this.#wait.nextChange(signal),
      readFirst: (one, step) => this.#readings.readFirst(one, step),
      log,
      onReady: (ready) => {
        this.#order.noteReady();
        // This start was late, and its substitute was ready first.
        if (this.ready.length > hosts) ready.kill("stop");
        this.#changed();
      },
      onEnded: (cause) => {
        onEnded(cause);
        this.#changed();
      },
    });
  }

  #changed(): void {
    this.#wait.noteChange();
    this.#options.onChange();
    for (const host of this.ready) host.shrink(this.#options.controlTimeoutMs);
    // Sessions of a slow token are opened before requests wait for them.
    const { lanes } = this.ready[0] ?? {};
    for (let more = lanes?.isKnownSlow ? this.#options.host.sessions : 0; more > 0; more--) this.grow();
  }

  /** Returns the serving host, after waiting for a start that has not failed yet. */
  async #serving(): Promise<HostProcess> {
    const host = await this.#wait.whenReady(() => true);
    if (host !== undefined) return host;
    throw this.reason ?? new KmsError("HSM_UNAVAILABLE", `no token host is ready yet${this.#readings.soFar}`);
  }

  #readingHosts(): ReadingHosts {
    const ready = (): readonly HostProcess[] => this.ready;
    const reason = (): KmsError | undefined => this.reason;
    return {
      get ready() {
        return ready();
      },
      get reason() {
        return reason();
      },
      configured: this.#options.hosts,
      serving: () => this.#serving(),
      read: (host, request, limitMs) => this.controls.call(host, Op.readKeks, request, () => limitMs),
      proves: (host, keyId) => this.controls.proves(host, keyId),
      whenReady: (wanted, loadedSince) => this.#wait.whenReady(wanted, loadedSince),
    };
  }
}
