// The hosts of one token, one serving and the others warm, and the way of a request through them: a bounded
// queue, the least loaded lane, a second copy to another host when an answer is late or a host died, and a
// deadline. A host whose oldest request passes the deadline is hung and is replaced.
import { KmsError } from "../errors.js";
import type { Log } from "../log.js";
import { HostKeeper } from "./host-keeper.js";
import { Job } from "./job.js";
import type { Reply } from "./lane.js";
import type { PinGate } from "./pin-gate.js";
import type { Caller, HsmState } from "./port.js";
import { HostFailure, type EndCause, type TokenHost, type TokenHostOptions } from "./token-host.js";
import {
  encodeCryptFrame,
  Op,
  type CryptRequest,
  type KekRecord,
  type TokenDescription,
  type WireFailure,
} from "./wire.js";

/** What the pool tells of itself; satisfied by the metrics. */
export interface HsmObserver {
  hsmCallDone(operation: string, result: string, seconds: number): void;
  hostEnded(cause: EndCause): void;
}

export interface HostPoolOptions {
  readonly host: TokenHostOptions;
  readonly hosts: number;
  readonly gate: PinGate;
  readonly startTimeoutMs: number;
  /** From a request's arrival to its end, in ms; below kube-apiserver's 3 s. */
  readonly requestTimeoutMs: number;
  /** Most requests that wait for a lane. */
  readonly queue: number;
  readonly observer: HsmObserver;
  readonly log: Log;
}

const SWEEP_MS = 25;
/** A second copy is sent after this part of the request timeout. */
const LATE_PART = 0.25;
const MAX_SENDS = 2;
/** Control calls read many attributes; a slow token needs its time. */
const CONTROL_TIMEOUT_FACTOR = 5;
/** A code that nobody knows replaces a host at most this often, in ms. */
const UNKNOWN_RV_MS = 60_000;

const OPERATION_NAMES = { [Op.encrypt]: "encrypt", [Op.decrypt]: "decrypt" } as const;

export class HostPool {
  readonly #options: HostPoolOptions;
  readonly #keepers: HostKeeper[];
  readonly #queue: Job[] = [];
  /** Every unsettled job, the oldest first. */
  readonly #jobs = new Set<Job>();
  readonly #relogins = new Map<TokenHost, Promise<void>>();
  readonly #unknownRvAt = new Map<number, number>();
  /** Resolves when a host has become ready or has failed to. */
  #change: Promise<void>;
  #announceChange: () => void = () => undefined;
  #sweeper: NodeJS.Timeout | undefined;
  #stopped = false;

  constructor(options: HostPoolOptions) {
    this.#options = options;
    this.#change = new Promise((resolve) => (this.#announceChange = resolve));
    this.#keepers = Array.from({ length: options.hosts }, () => this.#keeper());
  }

  start(): void {
    this.#keepers.forEach((keeper, index) => {
      // Logins one after the other, the second only if the first succeeded.
      const mayStart = async (): Promise<void> => {
        while (index > 0 && this.#ready().length === 0 && !this.#stopped) await this.#change;
      };
      void keeper.run(mayStart);
    });
  }

  async stop(graceMs: number): Promise<void> {
    this.#stopped = true;
    this.#announceChange();
    for (const job of this.#jobs) this.#settle(job, new KmsError("STOPPING", "the plugin is stopping"));
    await Promise.all(this.#keepers.map((keeper) => keeper.stop(graceMs)));
  }

  state(): HsmState {
    if (this.#ready().length > 0) return { up: true };
    return { up: false, reason: this.#reason() };
  }

  get token(): TokenDescription | undefined {
    return this.#keepers.find((keeper) => keeper.token !== undefined)?.token;
  }

  get readyHosts(): number {
    return this.#ready().length;
  }

  get queueLength(): number {
    return this.#queue.length;
  }

  get sessions(): number {
    return this.#ready().reduce((sum, host) => sum + host.lanes.length, 0);
  }

  get pids(): number[] {
    return this.#ready().flatMap((host) => host.pid ?? []);
  }

  /** @throws KmsError within the request timeout */
  async crypt(
    op: typeof Op.encrypt | typeof Op.decrypt,
    request: CryptRequest,
    caller: Caller,
  ): Promise<Buffer> {
    if (this.#stopped) throw new KmsError("STOPPING", "the plugin is stopping");
    if (this.#queue.length >= this.#options.queue) {
      throw new KmsError(
        "OVERLOADED",
        `${String(this.#queue.length)} requests wait for the HSM already; try again later`,
      );
    }
    const job = new Job(op, request, caller);
    this.#jobs.add(job);
    this.#sweeper ??= setInterval(() => {
      this.#sweep();
    }, SWEEP_MS);
    this.#enqueue(job);
    this.#pump();
    return job.promise;
  }

  /** A control call on a ready host. @throws KmsError, HSM_UNAVAILABLE when there is none */
  async control(op: Op, value: unknown): Promise<unknown> {
    const host = this.#ready()[0] ?? (await this.#awaitReady());
    return this.#controlOn(host, op, value);
  }

  /** Makes a reading of the keyring on every ready host, which keeps idle sessions alive and handles fresh. */
  async listKeks(): Promise<readonly KekRecord[]> {
    const [first, ...warm] = this.#ready();
    for (const host of warm) void this.#controlOn(host, Op.listKeks, {}).catch(() => undefined);
    const serving = first ?? (await this.#awaitReady());
    return (await this.#controlOn(serving, Op.listKeks, {})) as KekRecord[];
  }

  #keeper(): HostKeeper {
    const { host, gate, startTimeoutMs, log, observer } = this.#options;
    return new HostKeeper({
      host,
      gate,
      startTimeoutMs,
      log,
      onReady: () => {
        this.#tellChange();
        this.#pump();
      },
      onEnded: (cause) => {
        observer.hostEnded(cause);
        this.#tellChange();
        this.#failIfHopeless();
      },
    });
  }

  #ready(): TokenHost[] {
    return this.#keepers.flatMap((keeper) => keeper.ready ?? []);
  }

  #reason(): KmsError | undefined {
    return this.#keepers.find((keeper) => keeper.reason !== undefined)?.reason;
  }

  /** A field would be narrowed by the compiler across an await. */
  #isStopped(): boolean {
    return this.#stopped;
  }

  #tellChange(): void {
    this.#announceChange();
    this.#change = new Promise((resolve) => (this.#announceChange = resolve));
  }

  async #awaitReady(): Promise<TokenHost> {
    const reason = this.#reason();
    if (reason !== undefined) throw reason;
    let late = false;
    const timeout = new Promise<void>((resolve) => {
      setTimeout(resolve, this.#options.startTimeoutMs).unref();
    }).then(() => (late = true));
    while (this.#ready().length === 0 && this.#reason() === undefined && !late && !this.#isStopped()) {
      await Promise.race([this.#change, timeout]);
    }
    const [host] = this.#ready();
    if (host !== undefined) return host;
    throw this.#reason() ?? new KmsError("HSM_UNAVAILABLE", "no token host is ready yet");
  }

  async #controlOn(host: TokenHost, op: Op, value: unknown, again = true): Promise<unknown> {
    const limitMs = CONTROL_TIMEOUT_FACTOR * this.#options.requestTimeoutMs;
    const timer = setTimeout(() => {
      host.kill("hang");
    }, limitMs);
    try {
      return await host.control(op, value);
    } catch (error) {
      if (!(error instanceof HostFailure)) throw error;
      this.#condemnFor(host, error.failure);
      if (error.failure.fault !== "login" || !again) throw error;
    } finally {
      clearTimeout(timer);
      this.#pump();
    }
    await this.#loginAgain(host);
    return this.#controlOn(host, op, value, false);
  }

  #enqueue(job: Job): void {
    job.queued = true;
    this.#queue.push(job);
  }

  /** Sends what waits, oldest first, as far as there are lanes. */
  #pump(): void {
    while (this.#queue.length > 0) {
      const job = this.#queue[0];
      if (job === undefined || this.#drop(job)) {
        this.#queue.shift();
        continue;
      }
      const place = this.#place(job);
      if (place === undefined) {
        this.#growOrGiveUp();
        return;
      }
      this.#queue.shift();
      job.queued = false;
      this.#send(job, place.host, place.lane);
    }
  }

  /** Whether a job need not be sent any more. */
  #drop(job: Job): boolean {
    if (job.caller.cancelled) this.#settle(job, new KmsError("CANCELLED", "the caller went away"));
    return job.settled;
  }

  /** A lane for the job: the serving host first, unless it is late or has had the job already. */
  #place(job: Job): { host: TokenHost; lane: TokenHost["lanes"][number] } | undefined {
    const lateMs = LATE_PART * this.#options.requestTimeoutMs;
    const now = performance.now();
    const isLate = (host: TokenHost): boolean =>
      host.busySince !== undefined && now - host.busySince > lateMs;
    const hosts = this.#ready();
    const prompt = hosts.filter((host) => !isLate(host));
    for (const host of [...prompt, ...hosts.filter(isLate)]) {
      if (job.sentTo.includes(host)) continue;
      const lane = host.pickLane();
      if (lane !== undefined) return { host, lane };
    }
    return undefined;
  }

  #growOrGiveUp(): void {
    const hosts = this.#ready();
    const [serving] = hosts;
    if (serving === undefined) {
      this.#failIfHopeless();
      return;
    }
    void serving.grow().then((grown) => {
      if (grown) this.#pump();
    });
  }

  /** With no host ready and a start that has failed already, waiting helps nobody. */
  #failIfHopeless(): void {
    const reason = this.#ready().length === 0 ? this.#reason() : undefined;
    if (reason === undefined) return;
    for (const job of this.#jobs) if (job.queued) this.#settle(job, reason);
    this.#queue.length = 0;
  }

  #send(job: Job, host: TokenHost, lane: TokenHost["lanes"][number]): void {
    job.sentTo.push(host);
    job.pending++;
    const sentAt = performance.now();
    lane.send(
      (id) => encodeCryptFrame(id, job.op, job.request),
      (reply) => {
        this.#receive(job, host, reply, sentAt);
      },
    );
  }

  #receive(job: Job, host: TokenHost, reply: Reply, sentAt: number): void {
    job.pending--;
    const operation = OPERATION_NAMES[job.op];
    const seconds = (performance.now() - sentAt) / 1000;
    this.#options.observer.hsmCallDone(operation, reply.ok ? "ok" : reply.failure.fault, seconds);
    if (reply.ok) {
      if (job.succeed(reply.body)) this.#jobs.delete(job);
    } else {
      this.#receiveFailure(job, host, reply.failure);
    }
    this.#pump();
  }

  #receiveFailure(job: Job, host: TokenHost, failure: WireFailure): void {
    this.#condemnFor(host, failure);
    if (job.settled || job.queued) return;
    const error = new HostFailure(failure);
    const sendable = job.sentTo.length < MAX_SENDS;
    switch (failure.fault) {
      case "login":
        this.#retryAfterLogin(job, host, error);
        return;
      case "device":
      case "session":
      case "capacity":
        if (sendable) this.#retryElsewhere(job, error);
        else if (job.pending === 0) this.#settle(job, error);
        return;
      default:
        this.#settle(job, error);
    }
  }

  #retryElsewhere(job: Job, error: KmsError): void {
    const reason = this.#ready().length === 0 ? this.#reason() : undefined;
    if (reason !== undefined) {
      this.#settle(job, error);
      return;
    }
    job.queued = true;
    this.#queue.unshift(job);
  }

  #retryAfterLogin(job: Job, host: TokenHost, error: KmsError): void {
    if (job.sentTo.length >= MAX_SENDS) {
      this.#settle(job, error);
      return;
    }
    this.#loginAgain(host).then(
      () => {
        if (job.settled) return;
        const lane = host.alive ? (host.pickLane() ?? host.lanes[0]) : undefined;
        if (lane === undefined) this.#retryElsewhere(job, error);
        else this.#send(job, host, lane);
      },
      (refusal: unknown) => {
        this.#settle(job, KmsError.from(refusal));
      },
    );
  }

  /** One login serves all requests that found the token host logged out. */
  #loginAgain(host: TokenHost): Promise<void> {
    const running = this.#relogins.get(host);
    if (running !== undefined) return running;
    const keeper = this.#keepers.find((one) => one.ready === host);
    const login = (keeper?.loginAgain(host) ?? Promise.resolve()).finally(() => this.#relogins.delete(host));
    this.#relogins.set(host, login);
    return login;
  }

  /** Replaces a host whose module or device is broken. */
  #condemnFor(host: TokenHost, failure: WireFailure): void {
    const broken = failure.fault === "device" || failure.fault === "session";
    if (!broken || !host.alive) return;
    if (failure.unknownRv === true && failure.rv !== undefined) {
      const now = performance.now();
      if (now - (this.#unknownRvAt.get(failure.rv) ?? -Infinity) < UNKNOWN_RV_MS) return;
      this.#unknownRvAt.set(failure.rv, now);
    }
    this.#options.log.warn({ pid: host.pid, rv: failure.rv, err: failure.message }, "token host is replaced");
    host.kill("device");
  }

  #settle(job: Job, error: KmsError): void {
    job.fail(error);
    this.#jobs.delete(job);
  }

  /** Deadlines and second copies; runs only while requests are under way. */
  #sweep(): void {
    const now = performance.now();
    const { requestTimeoutMs } = this.#options;
    for (const host of this.#ready()) {
      const hung = host.lanes.some(
        (lane) =>
          !lane.busyWithControl && lane.busySince !== undefined && now - lane.busySince > requestTimeoutMs,
      );
      if (hung) host.kill("hang");
    }
    for (const job of this.#jobs) {
      const age = now - job.startedAt;
      if (age < LATE_PART * requestTimeoutMs) break;
      if (age >= requestTimeoutMs) {
        this.#settle(
          job,
          new KmsError("DEADLINE", `the HSM did not answer within ${String(requestTimeoutMs)} ms`),
        );
      } else if (!job.queued && job.sentTo.length < MAX_SENDS) {
        this.#sendSecondCopy(job);
      }
    }
    if (this.#jobs.size === 0) {
      clearInterval(this.#sweeper);
      this.#sweeper = undefined;
      this.#queue.length = 0;
    }
    this.#pump();
  }

  #sendSecondCopy(job: Job): void {
    const place = this.#place(job);
    if (place !== undefined && !this.#drop(job)) this.#send(job, place.host, place.lane);
  }
}
