// The lanes of one token host: which of them serves the next request, how busy they are, and which must not be used
// because they are being opened or cannot be logged in.
import type { LaneClient } from "./lane-client.js";
import type { WireFailure } from "../wire-calls.js";

/** Request duration above which overlapping requests on more sessions is worthwhile, in ms. */
export const SLOW_SERVICE_MS = 0.4;
/** Maximum number of requests that one lane of a fast token is given at a time. */
const PIPELINE = 32;
/** The same for a slow token, so that the lane finds the next request when it has answered one. */
const SLOW_PIPELINE = 2;
/**
 * Time for which a lane whose login was refused gets no request, in ms. The request after that makes it log in again, under
 * the same PIN policy: a PIN that the token has refused is not sent again.
 */
const REFUSED_MS = 60_000;

/** Holds the lanes of one token host and chooses one for each request. */
export class LaneSet {
  readonly #lanes: LaneClient[] = [];
  /** Lanes that are being opened and logged in. */
  readonly #opening = new Set<LaneClient>();
  /** Lanes that are logged out and whose login was refused, and until when they get no request, by performance.now(). */
  readonly #refused = new Map<LaneClient, number>();
  #operationMs = 0;

  /** Lanes that serve requests. */
  get open(): readonly LaneClient[] {
    if (this.#opening.size + this.#refused.size === 0) return this.#lanes;
    const now = performance.now();
    const isRefused = (lane: LaneClient): boolean => (this.#refused.get(lane) ?? -Infinity) > now;
    return this.#lanes.filter((lane) => !this.#opening.has(lane) && !isRefused(lane));
  }

  /** All lanes, including those that do not serve requests. */
  get all(): readonly LaneClient[] {
    return this.#lanes;
  }

  /** The lane for control calls. */
  get first(): LaneClient | undefined {
    return this.#lanes[0];
  }

  get length(): number {
    return this.#lanes.length;
  }

  /** Number of lanes that are being opened. */
  get opening(): number {
    return this.#opening.size;
  }

  add(lane: LaneClient): void {
    this.#lanes.push(lane);
  }

  /** Adds a lane that serves requests once `work` on it is done; removes it if that fails. */
  async addAfter(lane: LaneClient, work: () => Promise<void>): Promise<void> {
    this.#lanes.push(lane);
    this.#opening.add(lane);
    try {
      await work();
    } catch (error) {
      this.#lanes.splice(this.#lanes.indexOf(lane), 1);
      throw error;
    } finally {
      this.#opening.delete(lane);
    }
  }

  /** Removes and returns the newest lane without any request, but never the first; undefined if there is none. */
  removeIdle(): LaneClient | undefined {
    const lane = this.open.slice(1).findLast(({ load }) => load === 0);
    if (lane !== undefined) this.#lanes.splice(this.#lanes.indexOf(lane), 1);
    return lane;
  }

  /** Returns another lane that can serve, if any; this one, which cannot be logged in, then gets no request for a while. */
  refuse(lane: LaneClient): LaneClient | undefined {
    const other = this.open.find((one) => one !== lane);
    if (other !== undefined) this.#refused.set(lane, performance.now() + REFUSED_MS);
    return other;
  }

  /** Uses all lanes again, after a login has succeeded. */
  readmit(): void {
    this.#refused.clear();
  }

  /** Returns the lane that serves a request soonest, or undefined if waiting for one is better. */
  pick(): LaneClient | undefined {
    const free = this.open.filter((lane) => !lane.busyWithControl);
    const idle = free.find((lane) => lane.load === 0);
    if (idle !== undefined) return idle;
    const least = free.reduce<LaneClient | undefined>(
      (a, b) => (a === undefined || b.load < a.load ? b : a),
      undefined,
    );
    const most = this.isSlow ? SLOW_PIPELINE : PIPELINE;
    return least !== undefined && least.load < most ? least : undefined;
  }

  /** Returns a lane without any request; undefined if there is none. */
  get idle(): LaneClient | undefined {
    return this.open.find((lane) => lane.load === 0);
  }

  /** Records the shortest time of an operation under a key on this token, in ms, as the token host measured it. */
  noteOperation(ms: number | undefined): void {
    this.#operationMs = ms ?? this.#operationMs;
  }

  /** Whether the token is slow enough to benefit from more sessions. */
  get isSlow(): boolean {
    return this.isKnownSlow || this.#lanes.some((lane) => lane.serviceMs > SLOW_SERVICE_MS);
  }

  /** Whether the token is slow, by the token host's own measurement, which a busy machine hardly affects. */
  get isKnownSlow(): boolean {
    return this.#operationMs > SLOW_SERVICE_MS;
  }

  get load(): number {
    return this.#lanes.reduce((sum, lane) => sum + lane.load, 0);
  }

  /** Number of requests that wait in lanes for an earlier one. */
  get waiting(): number {
    return this.#lanes.reduce((sum, lane) => sum + Math.max(0, lane.load - 1), 0);
  }

  /** When the longest-running request began to occupy its lane, by performance.now(); undefined if there is none. */
  get busySince(): number | undefined {
    let oldest: number | undefined;
    for (const { busySince } of this.#lanes) {
      if (busySince !== undefined && (oldest === undefined || busySince < oldest)) oldest = busySince;
    }
    return oldest;
  }

  /** Returns whether an Encrypt or Decrypt has kept a lane busy for longer than this. */
  isHung(limitMs: number): boolean {
    const now = performance.now();
    return this.#lanes.some(({ cryptSince }) => cryptSince !== undefined && now - cryptSince > limitMs);
  }

  abandon(failure: WireFailure): void {
    for (const lane of this.#lanes) lane.abandon(failure);
  }
}
