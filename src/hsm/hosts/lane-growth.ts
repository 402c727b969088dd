// Opens further lanes of a token host, several at a time: some before requests wait for them, the others, up to the number
// of sessions that it may use, when requests have waited for a while. They take over what the first lane has found. After a
// lane could not be opened, no other is tried for a while. When no request has waited for some minutes, most lanes are ended.
import { backoffMs } from "../../backoff.js";
import type { Log } from "../../log.js";
import { Op, type OpenRequest } from "../wire-calls.js";
import type { TokenDescription } from "../port.js";
import { callOn, killOnTimeout } from "./control-call.js";
import type { LaneClient } from "./lane-client.js";
import { SLOW_SERVICE_MS, type LaneSet } from "./lane-set.js";

/** The host whose lanes are opened. */
export interface GrowingHost {
  readonly alive: boolean;
  readonly lanes: LaneSet;
  kill(cause: "hang"): void;
  /** Starts another thread, unless one has been prepared, and returns the plugin's end of its lane. */
  startLane(): LaneClient;
  /** Starts this many threads for later lanes. */
  prepareLanes(count: number): void;
  /** Ends the session and the thread of a lane, which `startLane` may then start again. */
  endLane(lane: LaneClient): Promise<void>;
}

/** How a lane is opened. */
export interface LaneOpening {
  /** Limit for opening its session, in ms. */
  readonly limitMs: number;
  /** Logs the lane in, if the library treats it as an application of its own. */
  readonly login: (lane: LaneClient) => Promise<unknown>;
  /** Called when a lane has been opened. */
  readonly onOpened: () => void;
}

/** Number of lanes that are opened at a time: a thread takes a processor for tens of ms before it serves. */
const AT_ONCE = 4;
/** Number of lanes that a slow token gets before requests have waited for lanes. */
const LANES_AHEAD = 8;
/**
 * Time for which requests must have waited before more lanes are opened, in ms. During a short burst, starting their
 * threads would cost more time than they save.
 */
const WAITED_MS = 1_000;
/** Longest time without waiting requests that does not end the wait, in ms. */
const PAUSE_MS = 250;
/** Time without waiting requests after which lanes are ended, in ms, and the number of those that stay. */
const IDLE_MS = 5 * 60_000;
const IDLE_LANES = 2;
/**
 * Pauses after lanes that could not be opened. Another application may have returned its sessions after a while, or a remote
 * token may answer again.
 */
const RETRY = { firstMs: 1_000, capMs: 5 * 60_000 };
/** Only one host waits for a lane, so its attempts need no jitter. */
const WITHOUT_JITTER = (): number => 1;
/**
 * Largest part of the sessions reported by the token that one host uses. On some tokens that number is shared by all
 * applications: other hosts, their replacements and operators' commands need sessions too.
 */
const LARGEST_SHARE = 1 / 4;

/** Opens the lanes of one token host after the first. */
export class LaneGrowth {
  readonly #host: GrowingHost;
  readonly #open: OpenRequest;
  readonly #log: Log;
  #maxLanes: number;
  #described: TokenDescription | undefined;
  /** Since when requests have been waiting, with pauses of at most PAUSE_MS, by performance.now(). */
  #waitingSince = 0;
  /** At first, when the token was found. */
  #lastWaitAt = 0;
  /** When the next lane may be tried, by performance.now(). */
  #retryAt = 0;
  /** Number of failures in a row; lanes that fail together count once. */
  #failures = 0;

  constructor(host: GrowingHost, open: OpenRequest, maxLanes: number, log: Log) {
    this.#host = host;
    this.#open = open;
    this.#maxLanes = maxLanes;
    this.#log = log;
  }

  /** Permits further lanes, now that the first lane has found the token. */
  begin(described: TokenDescription): void {
    const { maxSessions = Infinity, oneThread = false } = described;
    const share = oneThread ? 1 : Math.floor(maxSessions * LARGEST_SHARE);
    this.#maxLanes = Math.max(1, Math.min(this.#maxLanes, share));
    this.#described = described;
    this.#waitingSince = this.#lastWaitAt = performance.now();
  }

  /**
   * Records how many requests wait for a lane; returns whether any does, those in a lane behind an earlier request included.
   */
  noteWaiting(queued: number): boolean {
    if (queued + this.#host.lanes.waiting === 0) return false;
    const now = performance.now();
    if (now - this.#lastWaitAt > PAUSE_MS) this.#waitingSince = now;
    this.#lastWaitAt = now;
    return true;
  }

  /** Begins to open another lane if the token is slow enough to benefit and another one is allowed now. */
  grow(opening: LaneOpening): void {
    const { alive, lanes } = this.#host;
    const described = this.#described;
    if (!alive || !lanes.isSlow || described === undefined) return;
    if (performance.now() < this.#retryAt) return;
    if (lanes.opening >= AT_ONCE || lanes.length >= this.#maxLanesNow) return;
    void this.#openOne(described, opening);
  }

  /**
   * Starts the threads of the lanes that will be opened in advance, if the token seems to be slow. They make no PKCS#11
   * call until they are opened.
   */
  prepare(): void {
    const { callMs = 0 } = this.#described ?? {};
    if (callMs > SLOW_SERVICE_MS) this.#host.prepareLanes(this.#maxLanesNow - this.#host.lanes.length);
  }

  /** Ends lanes that have long not been needed: a thread takes about 12 MB. @param limitMs for closing a session */
  shrink(limitMs: number): void {
    const { alive, lanes } = this.#host;
    if (!alive || !this.#isIdle) return;
    while (lanes.length > IDLE_LANES) {
      const lane = lanes.removeIdle();
      if (lane === undefined) return;
      this.#end(lane, limitMs);
    }
  }

  get #isIdle(): boolean {
    return performance.now() - this.#lastWaitAt > IDLE_MS;
  }

  get #maxLanesNow(): number {
    if (this.#isIdle) return Math.min(IDLE_LANES, this.#maxLanes);
    const waitedMs = this.#lastWaitAt - this.#waitingSince;
    return waitedMs < WAITED_MS ? Math.min(LANES_AHEAD, this.#maxLanes) : this.#maxLanes;
  }

  async #openOne(described: TokenDescription, { limitMs, login, onOpened }: LaneOpening): Promise<void> {
    const { lanes } = this.#host;
    const lane = this.#host.startLane();
    try {
      await lanes.addAfter(lane, async () => {
        const open = { ...this.#open, described };
        const { loginRequired, loggedIn } = await killOnTimeout(this.#host, limitMs, () =>
          callOn(lane, Op.open, open),
        );
        if (loginRequired && !loggedIn) await login(lane);
      });
    } catch (error) {
      this.#pause(lanes.length - lanes.opening, error);
      this.#end(lane, limitMs);
      return;
    }
    this.#failures = 0;
    onOpened();
  }

  #pause(open: number, error: unknown): void {
    const now = performance.now();
    if (now < this.#retryAt) return;
    const retryMs = backoffMs(++this.#failures, RETRY, WITHOUT_JITTER);
    this.#retryAt = now + retryMs;
    this.#log.warn({ lanes: open, retryMs, err: error }, "token opens no further session");
  }

  /** Ends the session and the thread of a lane. The end of the host, which is replaced, ends them too. */
  #end(lane: LaneClient, limitMs: number): void {
    if (!this.#host.alive) return;
    void killOnTimeout(this.#host, limitMs, () => this.#host.endLane(lane)).catch(() => undefined);
  }
}
