// The jobs of background callers, which wait until no other request is waiting. They use only idle lanes, and only those of
// the serving host, so that a request that arrives meanwhile finds the warm host free.
import { KmsError } from "../../errors.js";
import type { Destination } from "./destination.js";
import type { HostProcess } from "./host-process.js";
import type { Job } from "./job.js";

/** A job that can be sent now, and where. */
export interface Sendable {
  readonly job: Job;
  readonly destination: Destination;
}

/** Queues background jobs, the oldest first. */
export class BackgroundJobs {
  readonly #jobs: Job[] = [];

  get length(): number {
    return this.#jobs.length;
  }

  add(job: Job): void {
    job.queued = true;
    this.#jobs.push(job);
  }

  /** Takes the next job from the queue; undefined if there is none, or no idle lane for it. */
  next(serving: HostProcess | undefined): Sendable | undefined {
    while (this.#jobs[0]?.settled === true) this.#jobs.shift();
    const [job] = this.#jobs;
    const lane = job === undefined ? undefined : serving?.lanes.idle;
    if (job === undefined || serving === undefined || lane === undefined) return undefined;
    this.#jobs.shift();
    job.queued = false;
    return { job, destination: { host: serving, lane } };
  }

  /** Empties the queue and returns its jobs. */
  takeAll(): Job[] {
    return this.#jobs.splice(0);
  }
}

/**
 * Returns why a job that has passed its deadline failed. Work that others kept waiting says nothing about the HSM.
 * @param lastAnswerAt when the HSM last answered any request, by performance.now()
 */
export function lateError(
  { caller, isProof, sentTo, queuedAt }: Job,
  requestTimeoutMs: number,
  lastAnswerAt: number,
): KmsError {
  const wasKeptWaiting = caller.isBackground === true || (isProof && lastAnswerAt > queuedAt);
  return wasKeptWaiting && sentTo.length === 0
    ? new KmsError("OVERLOADED", `other requests used the HSM for ${requestTimeoutMs} ms`)
    : new KmsError("DEADLINE", `the HSM did not answer within ${requestTimeoutMs} ms`);
}
