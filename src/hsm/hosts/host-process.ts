// One token host as the plugin sees it: a child process with its lanes, from spawn to exit. SIGKILL from outside ends
// it, since nothing inside a process can end a vendor call that hangs. The pool and the dispatcher decide which host
// gets which request and when a host is replaced.
import type { ChildProcess } from "node:child_process";
import type { Duplex } from "node:stream";
import type { Log } from "../../log.js";
import { callOn } from "./control-call.js";
import { LaneGrowth, type LaneOpening } from "./lane-growth.js";
import { LaneSet } from "./lane-set.js";
import { LaneClient } from "./lane-client.js";
import type { TokenDescription } from "../port.js";
import { spawnHost, type HostProcessOptions } from "./spawn-host.js";
import {
  Op,
  type ControlOp,
  type ControlReply,
  type ControlRequest,
  type KekNames,
  type WireFailure,
} from "../wire-calls.js";

/** The lane of a control call, and bytes that must not be part of its JSON, such as a PIN. */
export interface ControlOptions {
  readonly lane?: LaneClient | undefined;
  readonly secret?: Uint8Array;
}

/** Why a token host ended; a metric label. */
export type EndCause = "exit" | "signal" | "hang" | "device" | "reload" | "protocol" | "start" | "stop";

/** File descriptor of lane 0 in the child; the main thread of the token host assumes the same. */
const FIRST_LANE_FD = 3;
/** Time after SIGKILL after which a process that still exists counts as stuck in the kernel, in ms. */
const UNKILLABLE_MS = 1_000;

/** Runs one token host and makes calls on its lanes. */
export class HostProcess {
  /** Resolves within a second of a kill, even if the kernel keeps the process (state D, in a driver's call). */
  readonly ended: Promise<EndCause>;
  readonly #end: (cause: EndCause) => void;
  #givenUp: NodeJS.Timeout | undefined;
  readonly #child: ChildProcess;
  readonly #options: HostProcessOptions;
  readonly #log: Log;
  readonly #lanes = new LaneSet();
  /** Lanes whose threads have been started and that are not used yet. */
  readonly #prepared: LaneClient[] = [];
  /** The number of each lane, and the lanes whose threads have ended. */
  readonly #numbers = new Map<LaneClient, number>();
  readonly #ended: LaneClient[] = [];
  readonly #growth: LaneGrowth;
  #cause: EndCause | undefined;
  #spawnError: Error | undefined;
  #description: TokenDescription | undefined;
  #openedAt = Infinity;

  constructor(options: HostProcessOptions, log: Log) {
    this.#options = options;
    this.#log = log;
    this.#growth = new LaneGrowth(this, options.open, options.sessions, log);
    this.#child = spawnHost(options, log);
    let end: (cause: EndCause) => void = () => undefined;
    this.ended = new Promise((resolve) => (end = resolve));
    this.#end = end;
    this.#child.once("error", (error) => {
      this.#spawnError = error;
      this.#end(this.#finish("start"));
    });
    this.#child.once("exit", (_code, signal) => {
      clearTimeout(this.#givenUp);
      this.#end(this.#finish(signal === null ? "exit" : "signal"));
    });
    // The token host starts this one by itself.
    if (this.pid !== undefined) this.#lanes.add(this.#newLane());
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  get lanes(): LaneSet {
    return this.#lanes;
  }

  /** Why it has ended; undefined while it has not. */
  get endCause(): EndCause | undefined {
    return this.#cause;
  }

  get alive(): boolean {
    return this.#cause === undefined;
  }

  /** When it began to load the library, by performance.now(); Infinity before. */
  get openedAt(): number {
    return this.#openedAt;
  }

  /** Whether the process has ended or was never created. */
  get hasExited(): boolean {
    return this.pid === undefined || this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  /**
   * Waits until the process has loaded its packages.
   * @throws HostFailure; an error of spawn if there is no process
   */
  async loaded(): Promise<void> {
    const lane = this.#lanes.first;
    if (lane === undefined) {
      await this.ended;
      throw this.#spawnError ?? new Error("no process");
    }
    // A lane that has no session makes no call to close it.
    await callOn(lane, Op.close, {});
  }

  /** Loads the module and finds the token. @throws HostFailure */
  async open(): Promise<TokenDescription> {
    this.#openedAt = performance.now();
    const described = await this.control(Op.open, this.#options.open);
    this.#growth.begin(described);
    this.#description = described;
    return described;
  }

  /** Makes a control call, by default on the first lane, and returns its reply. It has no time limit of its own. */
  async control<O extends ControlOp>(
    op: O,
    request: ControlRequest<O>,
    { lane = this.#lanes.first, secret }: ControlOptions = {},
  ): Promise<ControlReply<O>> {
    if (lane === undefined) throw new TypeError("the token host has not been opened");
    return callOn(lane, op, request, secret);
  }

  /** Has every lane know of these KEKs from its next call on. Lanes that are opened later receive `open`. */
  setKeks(names: KekNames): void {
    if (this.#openedAt === Infinity) return;
    // A lane that does not take them ends with its host.
    for (const lane of this.#lanes.all) callOn(lane, Op.setKeks, names).catch(() => undefined);
  }

  /** Records how many requests wait for a lane of this host, and returns whether any does. */
  noteWaiting(queued: number): boolean {
    return this.#growth.noteWaiting(queued);
  }

  /** Begins to open another lane if the token is slow and another one is allowed now. */
  grow(opening: LaneOpening): void {
    this.#growth.grow(opening);
  }

  /** If the token seems to be slow, starts the threads of lanes that `grow` will open: they load while the token works. */
  prepareGrowth(): void {
    if (this.alive) this.#growth.prepare();
  }

  /** Starts this many threads for later lanes. */
  prepareLanes(count: number): void {
    for (let more = count; more > 0; more--) this.#prepared.push(this.#startThread());
  }

  /** Ends lanes that requests have not needed for some minutes. @param limitMs for closing a session */
  shrink(limitMs: number): void {
    this.#growth.shrink(limitMs);
  }

  /** Starts another thread, unless one has been prepared, and returns the plugin's end of its lane. */
  startLane(): LaneClient {
    return this.#prepared.shift() ?? this.#startThread();
  }

  #startThread(): LaneClient {
    const lane = this.#ended.pop() ?? this.#newLane();
    this.#child.stdin?.write(`${String(this.#numbers.get(lane))}\n`);
    return lane;
  }

  #newLane(): LaneClient {
    const number = this.#numbers.size;
    const stream = this.#child.stdio[FIRST_LANE_FD + number] as Duplex;
    const lane = new LaneClient(stream, () => {
      this.kill("protocol");
    });
    this.#numbers.set(lane, number);
    return lane;
  }

  /** Ends the session and the thread of a lane that is no longer used; it may be started again. @throws HostFailure */
  async endLane(lane: LaneClient): Promise<void> {
    await callOn(lane, Op.end, {});
    this.#ended.push(lane);
  }

  /** Opens another lane, which is not logged in here, and returns the token as that lane sees it. @throws HostFailure */
  async openLane(): Promise<TokenDescription> {
    if (this.#description === undefined) throw new TypeError("the token host has not been opened");
    const lane = this.startLane();
    const opened = callOn(lane, Op.open, { ...this.#options.open, described: this.#description });
    await this.#lanes.addAfter(lane, async () => {
      await opened;
    });
    return opened;
  }

  /** Ends the process now. Requests in progress fail at once. */
  kill(cause: EndCause): void {
    this.#finish(cause);
    // If there is no process, Node 20 signals whatever pid it holds: 0 (our own process group), or that of an earlier
    // child.
    if (this.hasExited) return;
    this.#child.kill("SIGKILL");
    this.#givenUp ??= setTimeout(() => {
      this.#log.warn({ pid: this.pid }, "token host does not end after SIGKILL: it hangs in a system call");
      this.#end(this.#finish(cause));
    }, UNKILLABLE_MS);
  }

  /** Closes the sessions, for at most `graceMs`, then ends the process. */
  async stop(graceMs: number): Promise<void> {
    if (this.alive && this.#lanes.length > 0) {
      const closing = this.control(Op.close, {}).catch(() => undefined);
      await Promise.race([closing, new Promise((resolve) => setTimeout(resolve, graceMs).unref())]);
    }
    this.kill("stop");
    await this.ended;
  }

  /** Keeps the first cause, since a kill is followed by the signal that it sent. */
  #finish(cause: EndCause): EndCause {
    this.#cause ??= cause;
    const failure: WireFailure = {
      code: "HSM_UNAVAILABLE",
      fault: "device",
      message: `the token host ended (${this.#cause}); another one is being started`,
    };
    this.#lanes.abandon(failure);
    return this.#cause;
  }
}
