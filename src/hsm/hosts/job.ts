// One request on its way to a token: its data, its caller, and the hosts that it has been sent to. A job is settled
// once; later replies are wiped.
import type { KmsError } from "../../errors.js";
import type { Caller, CryptRequest } from "../port.js";
import type { HostProcess } from "./host-process.js";
import type { CryptOp } from "../wire-calls.js";

/** Tracks one request until it is settled. */
export class Job {
  readonly op: CryptOp;
  readonly request: CryptRequest;
  readonly caller: Caller;
  /** Whose turn it takes: a cluster, or the proofs of all; empty without clusters. */
  readonly group: string;
  /** When it was made for the dispatcher. */
  readonly queuedAt = performance.now();
  /** When its timeout began: earlier than `queuedAt` if the plugin did other work for the request first. */
  readonly startedAt: number;
  /** Hosts that it has been sent to, in order. */
  readonly sentTo: HostProcess[] = [];
  /** Number of copies without a reply. */
  pending = 0;
  /** Whether it is in the queue. */
  queued = false;
  settled = false;
  readonly promise: Promise<Buffer>;
  #resolve!: (body: Buffer) => void;
  #reject!: (error: KmsError) => void;

  constructor(op: CryptOp, request: CryptRequest, caller: Caller, group = "") {
    this.op = op;
    this.request = request;
    this.caller = caller;
    this.group = group;
    this.startedAt = caller.startedAt ?? this.queuedAt;
    this.promise = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  get isProof(): boolean {
    return this.caller.isProof === true;
  }

  /** Resolves the promise. Returns false, and wipes the body, if the job was settled before. */
  succeed(body: Buffer): boolean {
    if (this.settled) {
      body.fill(0);
      return false;
    }
    this.settled = true;
    this.#resolve(body);
    return true;
  }

  /** Rejects the promise. Returns false if the job was settled before. */
  fail(error: KmsError): boolean {
    if (this.settled) return false;
    this.settled = true;
    this.#reject(error);
    return true;
  }
}
