// One request on its way to a token: what to send, who waits, how often it has been sent and where to. A job
// is settled once; replies that come after that are wiped.
import type { KmsError } from "../../errors.js";
import type { Caller, CryptRequest } from "../port.js";
import type { HostProcess } from "./host-process.js";
import type { CryptOp } from "../wire-calls.js";

export class Job {
  readonly op: CryptOp;
  readonly request: CryptRequest;
  readonly caller: Caller;
  readonly startedAt = performance.now();
  /** Its time runs from here: before `startedAt` where something else came first. */
  readonly arrivedAt: number;
  /** Hosts that have had it, in order. */
  readonly sentTo: HostProcess[] = [];
  /** Copies under way at this moment. */
  pending = 0;
  /** It waits in the queue at this moment. */
  queued = false;
  settled = false;
  readonly promise: Promise<Buffer>;
  #resolve!: (body: Buffer) => void;
  #reject!: (error: KmsError) => void;

  constructor(op: CryptOp, request: CryptRequest, caller: Caller) {
    this.op = op;
    this.request = request;
    this.caller = caller;
    this.arrivedAt = caller.startedAt ?? this.startedAt;
    this.promise = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  succeed(body: Buffer): boolean {
    if (this.settled) {
      body.fill(0);
      return false;
    }
    this.settled = true;
    this.#resolve(body);
    return true;
  }

  fail(error: KmsError): boolean {
    if (this.settled) return false;
    this.settled = true;
    this.#reject(error);
    return true;
  }
}
