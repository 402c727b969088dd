// Sends each request through a bounded queue to the least loaded lane of a token host. Sends it once more, to another
// host, if the answer is late or the host died (hsm/hedging.ts). Every request ends at its deadline. A host whose
// oldest request has passed the deadline counts as hung and is replaced.
import { KmsError } from "../../errors.js";
import { BackgroundJobs, lateError } from "./background-jobs.js";
import { COPIES_PER_TOKEN, otherHostAfterMs } from "../hedging.js";
import type { HostPool } from "./pool.js";
import { chooseDestination, type Destination } from "./destination.js";
import { FairQueue } from "./fair-queue.js";
import { Job } from "./job.js";
import type { Reply } from "./lane-client.js";
import type { Caller, CryptRequest } from "../port.js";
import { HostFailure } from "./host-failure.js";
import type { HostProcess } from "./host-process.js";
import { reportCall, type HsmObserver } from "./hsm-observer.js";
import { encodeCryptFrame } from "../wire.js";
import type { WireFailure } from "../wire-calls.js";

/** The limits of the request queue, and what it reports to. */
export interface DispatcherOptions {
  /** Longest time from a request's arrival to its end, in ms; below kube-apiserver's 3 s. */
  readonly requestTimeoutMs: number;
  /** Largest number of requests of one cluster that wait for a lane. */
  readonly queue: number;
  readonly observer: HsmObserver;
}

const SWEEP_MS = 25;
const nothing = (): void => undefined;

/** Sends requests to the token hosts of one token and enforces their deadlines. */
export class Dispatcher {
  readonly #hosts: HostPool;
  readonly #options: DispatcherOptions;
  readonly #queue = new FairQueue();
  /** Jobs of background callers, which are sent only while the queue is empty. */
  readonly #background = new BackgroundJobs();
  /** Every unsettled job, the oldest first. */
  readonly #jobs = new Set<Job>();
  /** Number of unsettled jobs other than proofs. */
  #awaited = 0;
  #lastAnswerAt = -Infinity;
  #sweeper: NodeJS.Timeout | undefined;
  #stopped = false;

  constructor(hosts: HostPool, options: DispatcherOptions) {
    this.#hosts = hosts;
    this.#options = options;
  }

  get queueLength(): number {
    return this.#queue.length;
  }

  /**
   * Performs one operation and returns its result, or throws a KmsError, within the request timeout.
   * @param group whose turn it takes, if several clusters share the token
   */
  async crypt(op: Job["op"], request: CryptRequest, caller: Caller, group = ""): Promise<Buffer> {
    if (this.#stopped) throw new KmsError("STOPPING", "the plugin is stopping");
    const isBackground = caller.isBackground === true;
    const waiting = this.#queue.waitingOf(group);
    if (!isBackground && waiting >= this.#options.queue) {
      throw new KmsError("OVERLOADED", `${waiting} requests wait for the HSM already; try again later`);
    }
    const job = new Job(op, request, caller, group);
    this.#jobs.add(job);
    if (!job.isProof) this.#awaited++;
    this.#sweeper ??= setInterval(() => {
      this.#sweep();
    }, SWEEP_MS);
    if (isBackground) this.#background.add(job);
    else this.#queue.add(job);
    this.pump();
    return job.promise;
  }

  /** Sends waiting requests while lanes are free. */
  pump(): void {
    const [serving] = this.#hosts.ready;
    this.#queue.drain(serving?.lanes.length ?? 0, (job) =>
      this.#endIfCancelled(job) ? nothing : this.#senderFor(job),
    );
    if (this.#queue.length === 0) this.#pumpBackground();
    this.#growOrGiveUp();
  }

  #pumpBackground(): void {
    const [serving] = this.#hosts.ready;
    let next;
    while ((next = this.#background.next(serving)) !== undefined) this.#send(next.job, next.destination);
  }

  /** Ends every request with STOPPING. */
  stop(): void {
    this.#stopped = true;
    for (const job of this.#jobs) this.#settle(job, new KmsError("STOPPING", "the plugin is stopping"));
    clearInterval(this.#sweeper);
  }

  /** Ends a job whose caller has disconnected. Returns whether the job has ended, for this or another reason. */
  #endIfCancelled(job: Job): boolean {
    if (job.caller.cancelled) this.#settle(job, new KmsError("CANCELLED", "the caller disconnected"));
    return job.settled;
  }

  /**
   * Opens another session on a slow token, but not for proofs: at a start, when every token seems slow, those of many clusters
   * would open all sessions. If there is no host, fails the waiting requests once a start has failed.
   */
  #growOrGiveUp(): void {
    if (this.#hosts.ready.length > 0) {
      if (this.#awaited > 0) this.#hosts.grow(this.#queue.length + this.#background.length);
      return;
    }
    const { reason } = this.#hosts;
    if (reason === undefined) return;
    for (const job of [...this.#queue.takeAll(), ...this.#background.takeAll()]) this.#settle(job, reason);
  }

  #send(job: Job, { host, lane }: Destination): void {
    job.sentTo.push(host);
    job.pending++;
    this.#queue.sent(job);
    const sentAt = performance.now();
    lane.send(
      (id) => encodeCryptFrame(id, job.op, job.request),
      (reply) => {
        this.#receive(job, { host, lane }, reply, sentAt);
      },
    );
  }

  #receive(job: Job, destination: Destination, reply: Reply, sentAt: number): void {
    job.pending--;
    this.#queue.answered(job);
    const endedAt = performance.now();
    if (reply.ok) this.#lastAnswerAt = endedAt;
    const result = reportCall(this.#options.observer, job, reply, sentAt, endedAt);
    if (result === "altered") this.#hosts.controls.noteAltered(destination.host, job.request);
    if (!reply.ok) this.#receiveFailure(job, destination, reply.failure);
    else if (job.succeed(reply.body)) this.#forget(job);
    this.pump();
  }

  #receiveFailure(job: Job, destination: Destination, failure: WireFailure): void {
    const { host } = destination;
    this.#hosts.controls.replaceIfBroken(host, failure);
    if (job.settled || job.queued) return;
    const error = new HostFailure(failure);
    const sendable = job.sentTo.length < COPIES_PER_TOKEN;
    switch (failure.fault) {
      case "login":
        if (sendable) this.#retryAfterLogin(job, destination, error);
        else if (job.pending === 0) this.#settle(job, error);
        return;
      case "device":
      case "capacity":
        if (sendable) this.#retryElsewhere(job, host, error);
        else if (job.pending === 0) this.#settle(job, error);
        return;
      // After a session fault, the token host has already retried on a new session.
      default:
        this.#settle(job, error);
    }
  }

  /** Queues a job again for another host: a ready one, or the successor of a host that has ended. */
  #retryElsewhere(job: Job, host: HostProcess, error: KmsError): void {
    const { ready, reason } = this.#hosts;
    const other = ready.some((one) => !job.sentTo.includes(one));
    const successor = !host.alive && reason === undefined;
    if (!other && !successor) {
      if (job.pending === 0) this.#settle(job, error);
      return;
    }
    this.#queue.addAgain(job);
  }

  #retryAfterLogin(job: Job, destination: Destination, error: KmsError): void {
    const { host, lane } = destination;
    this.#hosts.loginAgain(host, lane).then(
      () => {
        if (job.settled || job.queued || this.#endIfCancelled(job)) return;
        if (host.alive) this.#sendAgain(job, destination, error);
        else this.#retryElsewhere(job, host, error);
      },
      (refusal: unknown) => {
        if (job.settled || job.queued) return;
        const other = host.alive ? host.lanes.refuse(lane) : undefined;
        const failure = KmsError.from(refusal);
        if (other !== undefined) this.#sendAgain(job, { host, lane: other }, failure);
        else if (job.pending === 0) this.#settle(job, failure);
      },
    );
  }

  /** Sends another copy, unless the sweep has already sent the last one because the answer was late. */
  #sendAgain(job: Job, destination: Destination, error: KmsError): void {
    if (job.sentTo.length < COPIES_PER_TOKEN) this.#send(job, destination);
    else if (job.pending === 0) this.#settle(job, error);
  }

  #settle(job: Job, error: KmsError): void {
    job.fail(error);
    this.#forget(job);
  }

  #forget(job: Job): void {
    if (!this.#jobs.delete(job)) return;
    if (job.isProof) this.#hosts.noteProof();
    else this.#awaited--;
  }

  /** Enforces deadlines and sends second copies; runs only while requests are in progress. */
  #sweep(): void {
    const now = performance.now();
    const { requestTimeoutMs } = this.#options;
    for (const host of this.#hosts.ready) if (host.lanes.isHung(requestTimeoutMs)) host.kill("hang");
    for (const job of this.#jobs) {
      const age = now - job.queuedAt;
      if (now - job.startedAt >= requestTimeoutMs) {
        this.#settle(job, lateError(job, requestTimeoutMs, this.#lastAnswerAt));
      } else if (age < otherHostAfterMs(requestTimeoutMs) || job.caller.isBackground === true) {
        continue;
      } else if (!job.queued && job.sentTo.length < COPIES_PER_TOKEN && !this.#endIfCancelled(job)) {
        this.#senderFor(job)?.();
      }
    }
    this.pump();
    // A hung host is checked until it is replaced, even if another host has answered its requests.
    if (this.#jobs.size > 0 || this.#hosts.ready.some((host) => host.lanes.busySince !== undefined)) return;
    clearInterval(this.#sweeper);
    this.#sweeper = undefined;
  }

  /** Returns what sends a copy of a job; undefined if no lane is free. */
  #senderFor(job: Job): (() => void) | undefined {
    const destination = chooseDestination(job, this.#hosts.ready, this.#options.requestTimeoutMs);
    return destination === undefined ? undefined : this.#send.bind(this, job, destination);
  }
}
