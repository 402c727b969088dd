// Lets token hosts start before the metrics are loaded, which takes as long as a host's own start.
import type { HsmObserver } from "../hsm/hosts/hsm-observer.js";
import type { Metrics } from "../observability/metrics.js";

/** Passes calls and ends of token hosts on to the metrics, which are loaded while the first host starts. */
export class DeferredHsmObserver implements HsmObserver {
  metrics: Metrics | undefined;

  hsmCallDone(operation: string, result: string, seconds: number): void {
    this.metrics?.hsmCallDone(operation, result, seconds);
  }

  hostEnded(cause: string): void {
    this.metrics?.hostEnded(cause);
  }
}
