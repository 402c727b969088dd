// One token host as the plugin sees it: a child process with its lanes, from spawn to exit. SIGKILL from outside ends
// it, since nothing inside a process can end a vendor call that hangs. The pool and the dispatcher decide which host
// gets which request and when a host is replaced.
import { spawn, type ChildProcess } from "node:child_process";
import type { Duplex } from "node:stream";
import { KmsError } from "../../errors.js";
import type { Log } from "../../log.js";
import { LaneSet } from "./lane-set.js";
import { LaneClient, type Reply } from "./lane-client.js";
import type { TokenDescription } from "../port.js";
import { encodeControlFrame } from "../wire.js";
import {
  Op,
  type ControlOp,
  type ControlReply,
  type ControlRequest,
  type OpenRequest,
  type WireFailure,
} from "../wire-calls.js";
import { decodeControlReply } from "../wire-replies.js";

/** How to start a token host and open its token. */
export interface HostProcessOptions {
  /** The compiled entry file of the token host. */
  readonly entry: string;
  /** The environment for vendor libraries, without any PIN. */
  readonly env: NodeJS.ProcessEnv;
  readonly open: OpenRequest;
  /** Largest number of lanes, each a thread and a session. */
  readonly sessions: number;
}

/** The lane of a control call, and bytes that must not be part of its JSON, such as a PIN. */
export interface ControlOptions {
  readonly lane?: LaneClient | undefined;
  readonly secret?: Uint8Array;
}

/** Why a token host ended; a metric label. */
export type EndCause = "exit" | "signal" | "hang" | "device" | "reload" | "protocol" | "start" | "stop";

/** A token host allocates little. Fewer threads and a small heap save a control-plane node about 5 MB for each host. */
const SMALL = ["--max-semi-space-size=1", "--single-threaded-gc", "--v8-pool-size=1"];
/**
 * Largest share of the sessions reported by the token that one host uses. On some tokens that number is shared by all
 * applications: other hosts, their replacements and operators' commands need sessions too.
 */
const LARGEST_SHARE = 1 / 4;
/** Time after SIGKILL after which a process that still exists counts as stuck in the kernel, in ms. */
const UNKILLABLE_MS = 1_000;
/** What the token host itself writes to stderr; anything else comes from the library. */
const OWN_LINE = /^token host lane \d+: \w+$/m;

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
  #maxLanes: number;
  #cause: EndCause | undefined;
  #spawnError: Error | undefined;
  #description: TokenDescription | undefined;

  constructor(options: HostProcessOptions, log: Log) {
    this.#options = options;
    this.#maxLanes = options.sessions;
    this.#log = log;
    this.#child = spawn(process.execPath, [...SMALL, options.entry], {
      env: { ...options.env, ...entryVariables(options.open) },
      stdio: ["pipe", "ignore", "pipe", ...Array.from({ length: options.sessions }, () => "pipe" as const)],
    });
    this.#child.stdin?.on("error", () => undefined);
    this.#child.stderr?.on("data", (chunk: Buffer) => {
      this.#logStderr(chunk);
    });
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
    if (this.pid !== undefined) this.#lanes.add(this.#startLane());
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

  /** Whether the process has ended or was never created. */
  get hasExited(): boolean {
    return this.pid === undefined || this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  /** Loads the module and finds the token. @throws HostFailure; an error of spawn if there is no process */
  async open(): Promise<TokenDescription> {
    const lane = this.#lanes.first;
    if (lane === undefined) {
      await this.ended;
      throw this.#spawnError ?? new Error("no process");
    }
    this.#description = await callOn(lane, Op.open, this.#options.open);
    const { maxSessions = Infinity } = this.#description;
    this.#maxLanes = Math.max(1, Math.min(this.#maxLanes, Math.floor(maxSessions * LARGEST_SHARE)));
    return this.#description;
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

  /** Whether the token is slow enough to benefit from another lane, and another lane is allowed. */
  get canGrow(): boolean {
    return !this.#lanes.isOpening && this.#lanes.length < this.#maxLanes && this.alive && this.#lanes.isSlow;
  }

  /**
   * Adds a lane to a slow token, one at a time, until it has no more sessions. Returns whether one was added.
   * @param limitMs for opening the session
   * @param login logs the lane in, if the library treats it as an application of its own
   */
  async grow(limitMs: number, login: (lane: LaneClient) => Promise<unknown>): Promise<boolean> {
    if (!this.canGrow || this.#description === undefined) return false;
    const { slotId } = this.#description;
    const lanes = this.#lanes.length;
    const lane = this.#startLane();
    try {
      await this.#lanes.addAfter(lane, async () => {
        const open = { ...this.#options.open, slotId };
        const { loginRequired, loggedIn } = await killOnTimeout(this, limitMs, () =>
          callOn(lane, Op.open, open),
        );
        if (loginRequired && !loggedIn) await login(lane);
      });
      return true;
    } catch (error) {
      // The thread stays, unused: a token without a free session now is unlikely to have one later.
      this.#maxLanes = lanes;
      this.#log.warn({ lanes, err: error }, "token opens no further session");
      return false;
    }
  }

  /** Opens another lane, which is not logged in here, and returns the token as that lane sees it. @throws HostFailure */
  async openLane(): Promise<TokenDescription> {
    if (this.#description === undefined) throw new TypeError("the token host has not been opened");
    const { slotId } = this.#description;
    const lane = this.#startLane();
    const opened = callOn(lane, Op.open, { ...this.#options.open, slotId });
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

  #startLane(): LaneClient {
    const index = this.#lanes.length;
    const stream = this.#child.stdio[3 + index] as Duplex;
    const lane = new LaneClient(stream, () => {
      this.kill("protocol");
    });
    this.#child.stdin?.write(`${index}\n`);
    return lane;
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

  /** Libraries may trace their arguments, including the PIN, so only the size of their output is logged. */
  #logStderr(chunk: Buffer): void {
    const said = OWN_LINE.exec(chunk.toString("latin1"))?.[0];
    this.#log.debug({ pid: this.pid, bytes: chunk.length, said }, "token host wrote to stderr");
    chunk.fill(0);
  }
}

/** Returns what src/token-host/entry-shim.c reads. */
function entryVariables({ modulePath, moduleEntry }: OpenRequest): NodeJS.ProcessEnv {
  if (moduleEntry === undefined) return {};
  return { KMS_PKCS11_MODULE: modulePath, KMS_PKCS11_MODULE_ENTRY: moduleEntry };
}

/** Makes a control call on a lane and returns its reply, or throws a HostFailure. */
async function callOn<O extends ControlOp>(
  lane: LaneClient,
  op: O,
  request: ControlRequest<O>,
  secret?: Uint8Array,
): Promise<ControlReply<O>> {
  const reply = await new Promise<Reply>((resolve) => {
    lane.send((id) => encodeControlFrame(id, op, request, secret), resolve, true);
  });
  if (!reply.ok) throw new HostFailure(reply.failure);
  return decodeControlReply(op, reply.body);
}

/** A KmsError with the failure that the token host reported, including what the plugin has to do about it. */
export class HostFailure extends KmsError {
  readonly failure: WireFailure;

  constructor(failure: WireFailure) {
    super(failure.code, failure.message, failure);
    this.failure = failure;
  }
}

/** Runs `work`, and kills the host if it takes longer than `limitMs`: nothing else ends a vendor call that hangs. */
export async function killOnTimeout<T>(
  host: HostProcess,
  limitMs: number,
  work: () => Promise<T>,
): Promise<T> {
  const timer = setTimeout(() => {
    host.kill("hang");
  }, limitMs);
  try {
    return await work();
  } finally {
    clearTimeout(timer);
  }
}
