// Measures an HSM outage. Within the grace period it does not affect Status: kube-apiserver can continue to write
// without the HSM, and an unready API server leaves the load balancer. After it, health.onHsmLoss decides
// (kubernetes/kubernetes#138950).
import type { KmsError } from "../errors.js";
import type { Log } from "../log.js";

/** How an outage affects Status. */
export interface OutagePolicy {
  readonly gracePeriodMs: number;
  readonly onHsmLoss: "stopWrites" | "keepWriting";
}

/** Measures the current outage. */
export class Outage {
  readonly policy: OutagePolicy;
  readonly #log: Log;
  readonly #now: () => number;
  #since: number | undefined;
  #endedAt = -Infinity;
  #reason: KmsError | undefined;

  /** @param now a monotonic clock in ms */
  constructor(policy: OutagePolicy, log: Log, now: () => number = () => performance.now()) {
    this.policy = policy;
    this.#log = log;
    this.#now = now;
  }

  /** Why the HSM is away; undefined without an outage. */
  get reason(): KmsError | undefined {
    return this.#reason;
  }

  /** The outage in a line: what is lost, for how long and why; undefined without an outage. */
  get description(): string | undefined {
    if (this.#reason === undefined) return undefined;
    return `${describeLoss(this.#reason)} for ${this.seconds.toFixed(0)} s: ${this.#reason.message}`;
  }

  /** Time since the outage began, in seconds; 0 without an outage. */
  get seconds(): number {
    return this.#since === undefined ? 0 : (this.#now() - this.#since) / 1000;
  }

  /** When the HSM was last away: now during an outage, -Infinity if never. */
  get lastAwayAt(): number {
    return this.#since === undefined ? this.#endedAt : this.#now();
  }

  get graceIsOver(): boolean {
    return this.#since !== undefined && this.#now() - this.#since > this.policy.gracePeriodMs;
  }

  /** Begins an outage, or updates the reason of the present one. */
  begin(reason: KmsError): void {
    if (this.#reason?.message !== reason.message) {
      this.#log.warn({ err: reason, seconds: inTenths(this.seconds) }, describeLoss(reason));
    }
    this.#reason = reason;
    this.#since ??= this.#now();
  }

  /** Ends the outage, if there is one. */
  end(): void {
    if (this.#since === undefined) return;
    this.#log.info({ seconds: inTenths(this.seconds) }, "HSM is back");
    this.#since = undefined;
    this.#endedAt = this.#now();
    this.#reason = undefined;
  }
}

/** Without a PIN that the token accepts, the HSM cannot be used, although it answers. */
function describeLoss({ code }: KmsError): string {
  return code === "PIN_REFUSED" || code === "PIN_UNREADABLE" ? "no login to the HSM" : "HSM is away";
}

function inTenths(seconds: number): number {
  return Math.round(10 * seconds) / 10;
}
