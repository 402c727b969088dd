// How long the HSM has been away, and what that means for Status: nothing within the grace period, since
// kube-apiserver needs nothing from the HSM to go on writing and an unready API server leaves the load
// balancer; after it, what health.onHsmLoss says (kubernetes/kubernetes#138950).
import type { KmsError } from "../errors.js";
import type { Log } from "../log.js";

export interface OutagePolicy {
  readonly gracePeriodMs: number;
  readonly onHsmLoss: "stopWrites" | "keepWriting";
}

export class Outage {
  readonly policy: OutagePolicy;
  readonly #log: Log;
  readonly #now: () => number;
  #since: number | undefined;
  #reason: KmsError | undefined;

  /** @param now a monotonic clock in ms */
  constructor(policy: OutagePolicy, log: Log, now: () => number = () => performance.now()) {
    this.policy = policy;
    this.#log = log;
    this.#now = now;
  }

  /** Why the HSM is away; undefined when it is not. */
  get reason(): KmsError | undefined {
    return this.#reason;
  }

  get seconds(): number {
    return this.#since === undefined ? 0 : (this.#now() - this.#since) / 1000;
  }

  get graceIsOver(): boolean {
    return this.#since !== undefined && this.#now() - this.#since > this.policy.gracePeriodMs;
  }

  begin(reason: KmsError): void {
    if (this.#reason?.message !== reason.message) {
      this.#log.warn({ err: reason, seconds: this.seconds }, "HSM is away");
    }
    this.#reason = reason;
    this.#since ??= this.#now();
  }

  end(): void {
    if (this.#since === undefined) return;
    this.#log.info({ seconds: this.seconds }, "HSM is back");
    this.#since = undefined;
    this.#reason = undefined;
  }
}
