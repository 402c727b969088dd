// The requests that wait for a lane. Clusters that share a token take turns, and none fills all lanes: a request of one
// cluster waits for at most a few of another's, however many the other sends. Without clusters, all requests are one group
// and are served in the order of their arrival.
import type { Job } from "./job.js";

/** Part of the lanes that the requests of one cluster may occupy. */
const LARGEST_PART = 3 / 4;
/**
 * Number of requests that a cluster may always have in lanes, so that a lane finds the next one when it has answered one.
 */
const LEAST_IN_LANES = 2;

/** Queues jobs, and decides whose turn it is. */
export class FairQueue {
  /** The jobs of each group; the groups in the order of their turns. */
  readonly #groups = new Map<string, Job[]>();
  /** Jobs that were sent before and go to another host; they block no others. */
  readonly #again: Job[] = [];
  /** Number of copies without a reply, by group. */
  readonly #inLanes = new Map<string, number>();

  get length(): number {
    let length = this.#again.length;
    for (const jobs of this.#groups.values()) length += jobs.length;
    return length;
  }

  /** Returns the number of jobs of one group that have not been sent. */
  waitingOf(group: string): number {
    return this.#groups.get(group)?.length ?? 0;
  }

  add(job: Job): void {
    job.queued = true;
    const jobs = this.#groups.get(job.group);
    if (jobs === undefined) this.#groups.set(job.group, [job]);
    else jobs.push(job);
  }

  /** Adds a job that was sent before: it goes first. */
  addAgain(job: Job): void {
    job.queued = true;
    this.#again.unshift(job);
  }

  /** Records that a copy of a job has been sent. */
  sent({ group }: Job): void {
    if (group !== "") this.#inLanes.set(group, (this.#inLanes.get(group) ?? 0) + 1);
  }

  /** Records that a copy of a job has been answered. */
  answered({ group }: Job): void {
    const left = (this.#inLanes.get(group) ?? 0) - 1;
    if (left > 0) this.#inLanes.set(group, left);
    else this.#inLanes.delete(group);
  }

  /**
   * Removes the jobs that can be sent, in turn, and sends them.
   * @param prepare returns what sends a job, or nothing to drop it; undefined if the job has to wait for a lane
   */
  drain(lanes: number, prepare: (job: Job) => (() => void) | undefined): void {
    for (const job of [...this.#again]) {
      const send = job.queued ? prepare(job) : undefined;
      if (send === undefined) continue;
      this.#again.splice(this.#again.indexOf(job), 1);
      job.queued = false;
      send();
    }
    const most = Math.max(LEAST_IN_LANES, Math.floor(lanes * LARGEST_PART));
    for (let next = this.#next(most); next !== undefined; next = this.#next(most)) {
      const send = prepare(next.job);
      if (send === undefined) return;
      // Removed before it is sent: a lane that has just ended answers at once, and its job comes back.
      this.#remove(next);
      next.job.queued = false;
      send();
    }
  }

  /** Empties the queue and returns its jobs. */
  takeAll(): Job[] {
    const jobs = [...this.#again.splice(0), ...[...this.#groups.values()].flat()];
    this.#groups.clear();
    return jobs;
  }

  /** Returns the first job of the group whose turn it is. */
  #next(most: number): { readonly group: string; readonly jobs: Job[]; readonly job: Job } | undefined {
    for (const [group, jobs] of this.#groups) {
      const [job] = jobs;
      if (job !== undefined && (this.#inLanes.get(group) ?? 0) < most) return { group, jobs, job };
    }
    return undefined;
  }

  /** Removes the first job of a group, whose next turn is the last. */
  #remove({ group, jobs }: { readonly group: string; readonly jobs: Job[] }): void {
    jobs.shift();
    this.#groups.delete(group);
    if (jobs.length > 0) this.#groups.set(group, jobs);
  }
}
