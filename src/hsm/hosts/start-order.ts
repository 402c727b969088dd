// The order in which the token hosts of one token start: one after the other, the warm ones once a first host serves.
import type { Starts } from "./starts.js";

/** While a start hangs, another one may run beside it. */
export const LEAST_SUPERVISORS = 2;
/**
 * Once a host is ready, the warm ones start after this time without a control call or a proof, in ms, so that the KEKs are
 * proven and Status is answered first. With many clusters, that takes many calls, one after the other; the warm hosts wait
 * for at most WARM_BY_MS.
 */
const WARM_AFTER_MS = 250;
const WARM_BY_MS = 3_000;

/** Decides which supervisor may start a host now. */
export class StartOrder {
  readonly #configured: number;
  readonly #starts: Starts;
  readonly #onChange: () => void;
  #hasBeenReady = false;
  #warm: NodeJS.Timeout | undefined;
  #readyAt = 0;
  #mayWarm = false;

  /**
   * @param configured number of hosts in the configuration
   * @param onChange called when the warm hosts may start
   */
  constructor(configured: number, starts: Starts, onChange: () => void) {
    this.#configured = configured;
    this.#starts = starts;
    this.#onChange = onChange;
  }

  /** Hosts log in one after the other; while none is ready, one start may run beside another that hangs. */
  mayStart(index: number, readyHosts: number): boolean {
    const { underWay, isLate } = this.#starts;
    if (readyHosts >= this.#configured) return false;
    if (readyHosts === 0 && underWay >= LEAST_SUPERVISORS) return false;
    if (index >= this.#configured) return this.#hasBeenReady && readyHosts === 0 && isLate;
    return index === 0 || this.#mayWarm || isLate;
  }

  noteReady(): void {
    this.#hasBeenReady = true;
    if (this.#warm === undefined) this.#readyAt = performance.now();
    this.#warm ??= setTimeout(() => {
      this.#mayWarm = true;
      this.#onChange();
    }, WARM_AFTER_MS);
  }

  /** Records that a control call or a proof has ended: the serving host may still have KEKs to try or to prove. */
  noteCall(): void {
    const isEarly = performance.now() - this.#readyAt < WARM_BY_MS - WARM_AFTER_MS;
    if (!this.#mayWarm && isEarly) this.#warm?.refresh();
  }

  stop(): void {
    clearTimeout(this.#warm);
  }
}
