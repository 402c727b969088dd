// Implements the HSM port for one token, with its hosts and their dispatcher, and the calls that operators' commands
// need.
import { KmsError } from "../errors.js";
import type { Log } from "../log.js";
import { Dispatcher } from "./hosts/dispatcher.js";
import type { HsmObserver } from "./hosts/hsm-observer.js";
import { HostPool } from "./hosts/pool.js";
import type { DatedKeks } from "./hosts/first-reading.js";
import type { MechanismChoice } from "./mechanisms.js";
import type { LoginGate } from "./login/login-gate.js";
import type {
  Caller,
  Hsm,
  HsmState,
  CryptRequest,
  GenerateRequest,
  KekRecord,
  ProbeResult,
  TestedRight,
  TokenDescription,
} from "./port.js";
import type { HostProcessOptions } from "./hosts/spawn-host.js";
import { Op, type DestroyRequest, type KekCopy, type KekNames } from "./wire-calls.js";
import { deadlineAt } from "./wire-deadline.js";

/** The token hosts of one token and the limits of its requests. */
export interface TokenHsmOptions {
  readonly host: HostProcessOptions;
  /** Number of token hosts: one serves, the others are warm. */
  readonly hosts: number;
  readonly gate: LoginGate;
  readonly startTimeoutMs: number;
  readonly requestTimeoutMs: number;
  readonly queue: number;
  readonly observer: HsmObserver;
  readonly log: Log;
}

/** Until when a KEK that nodes will need later may be destroyed; ms since the epoch, by this machine's clock. */
export interface DestroyWindow {
  /** No C_DestroyObject starts later. */
  readonly begunBy: number;
  /** A call that has not ended by then is abandoned, and its token host is killed. */
  readonly endedBy: number;
}

/** What operators' commands need in addition to the port. */
export interface TokenAdministration {
  token(): TokenDescription | undefined;
  /** Makes a generation inside the token. */
  generate(request: GenerateRequest): Promise<KekRecord>;
  /**
   * Destroys every object of a KEK and returns their number. The caller must check afterwards with
   * `listKeksReloaded`: a call that fails may still have been carried out.
   */
  destroy(kek: Pick<KekRecord, "keyId" | "aliases">, window?: DestroyWindow): Promise<number>;
  relabel(keyId: string, label: string): Promise<KekRecord>;
}

/** Control calls read many attributes, or make keys; a slow token needs more time for them. */
const CONTROL_TIMEOUT_FACTOR = 5;
/** It is unknown whether an abandoned C_DestroyObject was carried out, so it gets more time. */
const DESTROY_TIMEOUT_FACTOR = 15;
const LEAST_DESTROY_MS = 1_000;
/** Limit for making two RSA key pairs, which takes a small token minutes. */
const RSA_TIMEOUT_MS = 300_000;

/** Implements the HSM port for one token. */
export class TokenHsm implements Hsm, TokenAdministration {
  readonly #hosts: HostPool;
  readonly #dispatcher: Dispatcher;
  #isStarted = false;
  #stopped = false;
  readonly #requestTimeoutMs: number;

  constructor(options: TokenHsmOptions) {
    const { observer, requestTimeoutMs, queue } = options;
    this.#requestTimeoutMs = requestTimeoutMs;
    this.#hosts = new HostPool({
      ...options,
      controlTimeoutMs: CONTROL_TIMEOUT_FACTOR * requestTimeoutMs,
      onEnded: (cause) => {
        observer.hostEnded(cause);
      },
      onChange: () => {
        this.#dispatcher.pump();
      },
    });
    this.#dispatcher = new Dispatcher(this.#hosts, { requestTimeoutMs, queue, observer });
  }

  /** Starts the first host's process, which loads its packages; the token is not used before `start`. */
  prepare(): void {
    this.#hosts.prepare();
  }

  /** Starts the hosts, unless they have been started. */
  start(): void {
    if (this.#isStarted) return;
    this.#isStarted = true;
    this.#hosts.start();
  }

  async stop(graceMs: number): Promise<void> {
    this.#stopped = true;
    this.#dispatcher.stop();
    await this.#hosts.stop(graceMs);
  }

  /** Logs the token out: ends every host, including one that is starting. @param graceMs for closing their sessions */
  replaceHosts(graceMs: number): Promise<void> {
    return this.#hosts.replace(graceMs);
  }

  /** Replaces the names of the KEKs on the token, for clusters that share it. */
  setKeks(names: KekNames): void {
    this.#hosts.setKeks(names);
  }

  /** @param group whose turn it takes, if several clusters share the token */
  encrypt(request: CryptRequest, caller: Caller, group?: string): Promise<Buffer> {
    return this.#dispatcher.crypt(Op.encrypt, request, caller, group);
  }

  /** @param group whose turn it takes, if several clusters share the token */
  decrypt(request: CryptRequest, caller: Caller, group?: string): Promise<Buffer> {
    return this.#dispatcher.crypt(Op.decrypt, request, caller, group);
  }

  async listKeks(): Promise<readonly KekRecord[]> {
    return (await this.listDatedKeks(0)).keks;
  }

  /**
   * Lists the KEKs, and says when that reading began.
   * @param maxAgeMs how long before this call a host may have begun the reading that it makes when it starts
   * @throws KmsError
   */
  listDatedKeks(maxAgeMs: number): Promise<DatedKeks> {
    return this.#hosts.listKeks(maxAgeMs);
  }

  async listKeksReloaded(): Promise<readonly KekRecord[]> {
    if (this.#stopped) throw new KmsError("STOPPING", "the token hosts are stopped");
    return this.#hosts.listKeksReloaded();
  }

  probe(keyId: string, choice: MechanismChoice | "auto"): Promise<readonly ProbeResult[]> {
    return this.#hosts.read(Op.probe, { keyId, choice });
  }

  /** Tests what the login may do, with session objects only. @throws KmsError */
  testRights(): Promise<readonly TestedRight[]> {
    return this.#hosts.control(Op.rights, {});
  }

  state(): HsmState {
    return this.#hosts.state;
  }

  token(): TokenDescription | undefined {
    return this.#hosts.token;
  }

  async generate(request: GenerateRequest): Promise<KekRecord> {
    const { kind, mechanism = "auto" } = request;
    // A token that hangs while it is tried has no claim to the time for RSA pairs.
    const isOpen = kind === "auto" && mechanism === "auto";
    const choice = isOpen ? await this.#hosts.control(Op.chooseKek, request) : { kind, mechanism };
    return this.#make({ ...request, ...choice });
  }

  #make(request: GenerateRequest): Promise<KekRecord> {
    const makesRsa = request.kind === "rsa" || request.mechanism === "rsa-oaep";
    if (!makesRsa) return this.#hosts.control(Op.generate, request);
    const limitMs = Math.max(CONTROL_TIMEOUT_FACTOR * this.#requestTimeoutMs, RSA_TIMEOUT_MS);
    return this.#hosts.control(Op.generate, request, () => limitMs);
  }

  async destroy(
    { keyId, aliases }: Pick<KekRecord, "keyId" | "aliases">,
    window?: DestroyWindow,
  ): Promise<number> {
    const keyIds = [keyId, ...aliases];
    const request: DestroyRequest =
      window === undefined ? { keyIds } : { keyIds, notAfter: deadlineAt(window.begunBy) };
    const limitMs = (): number => {
      const untilEnd = (window?.endedBy ?? Infinity) - Date.now();
      // The token host itself refuses calls after `begunBy`; leave it time to report that.
      return Math.max(LEAST_DESTROY_MS, Math.min(DESTROY_TIMEOUT_FACTOR * this.#requestTimeoutMs, untilEnd));
    };
    return (await this.#hosts.control(Op.destroy, request, limitMs)).objects;
  }

  /** Returns other keys on the token, under any label, that have or seem to have the value with these key_ids. */
  findCopies(keyIds: readonly string[]): Promise<readonly KekCopy[]> {
    const limitMs = DESTROY_TIMEOUT_FACTOR * this.#requestTimeoutMs;
    return this.#hosts.control(Op.findCopies, { keyIds }, () => limitMs);
  }

  relabel(keyId: string, label: string): Promise<KekRecord> {
    return this.#hosts.control(Op.relabel, { keyId, label });
  }

  get readyHosts(): number {
    return this.#hosts.ready.length;
  }

  /** Process ids of the hosts that are ready, the serving one first. */
  get pids(): number[] {
    return this.#hosts.ready.flatMap((host) => host.pid ?? []);
  }

  get sessions(): number {
    return this.#hosts.ready.reduce((sum, host) => sum + host.lanes.length - host.lanes.opening, 0);
  }

  /** The lanes of the serving host, and whether the token is so slow that requests should overlap. */
  get lanes(): { readonly count: number; readonly areSlow: boolean } {
    const { lanes } = this.#hosts.ready[0] ?? {};
    return { count: lanes?.open.length ?? 0, areSlow: lanes?.isKnownSlow ?? false };
  }

  get queueLength(): number {
    return this.#dispatcher.queueLength;
  }
}
