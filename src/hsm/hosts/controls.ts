// Makes control calls on token hosts: each within a time limit, after another login if the lane is logged out, and
// followed by the replacement of a host whose module or device is broken.
import type { Log } from "../../log.js";
import { mechanismById } from "../mechanisms.js";
import type { CryptRequest } from "../port.js";
import {
  Op,
  type ControlOp,
  type ControlReply,
  type ControlRequest,
  type WireFailure,
} from "../wire-calls.js";
import { killOnTimeout } from "./control-call.js";
import { HostFailure } from "./host-failure.js";
import type { HostProcess } from "./host-process.js";
import type { LaneClient } from "./lane-client.js";
import type { Logins } from "./logins.js";

/** Minimum interval between two replacements of a host for the same unknown CKR code, in ms. */
const UNKNOWN_RV_MS = 60_000;

/** The time limit of control calls, and what they use. */
export interface ControlsOptions {
  readonly logins: Logins;
  /** Limit for a control call, in ms. */
  readonly limitMs: number;
  /** Called after every call. */
  readonly onDone: () => void;
  readonly log: Log;
}

/** Makes control calls on the hosts of one token, and replaces broken hosts. */
export class Controls {
  readonly #options: ControlsOptions;
  readonly #unknownRvAt = new Map<number, number>();

  constructor(options: ControlsOptions) {
    this.#options = options;
  }

  /**
   * Makes a call on a host.
   * @param limitMs returns the limit when the call begins; the usual one if omitted
   * @throws KmsError
   */
  async call<O extends ControlOp>(
    host: HostProcess,
    op: O,
    request: ControlRequest<O>,
    limitMs: () => number = () => this.#options.limitMs,
  ): Promise<ControlReply<O>> {
    // A trial may take long on a slow token, and another one may be under way.
    const lane = (op === Op.probe ? host.lanes.idle : undefined) ?? host.lanes.first;
    try {
      return await this.#callOnce(host, op, request, { lane, limitMs: limitMs() });
    } catch (error) {
      if (!(error instanceof HostFailure) || error.failure.fault !== "login") throw error;
    }
    if (lane !== undefined) await this.#options.logins.login(host, lane);
    return this.#callOnce(host, op, request, { lane, limitMs: limitMs() });
  }

  /** Returns whether operations under a KEK succeed on a host, which is replaced if they do not. */
  async proves(host: HostProcess, keyId: string): Promise<boolean> {
    const results = await this.call(host, Op.probe, { keyId, choice: "auto" }).catch(() => []);
    return results.some(({ works }) => works);
  }

  /** Replaces a host whose module or device is broken. */
  replaceIfBroken(host: HostProcess, failure: WireFailure): void {
    const broken = failure.fault === "device" || failure.fault === "session";
    if (!broken || !host.alive || this.#wasReplacedFor(failure)) return;
    this.#options.log.warn({ pid: host.pid, rv: failure.rv, err: failure.message }, "token host is replaced");
    host.kill("device");
  }

  /** Reports a result that the token altered; the token host has repeated the request on another session. */
  noteAltered(host: HostProcess, { keyId, mechanism }: CryptRequest): void {
    const name = mechanismById(mechanism)?.name;
    this.#options.log.error({ pid: host.pid, keyId, mechanism: name }, "token returned an altered result");
  }

  async #callOnce<O extends ControlOp>(
    host: HostProcess,
    op: O,
    request: ControlRequest<O>,
    { lane, limitMs }: { readonly lane: LaneClient | undefined; readonly limitMs: number },
  ): Promise<ControlReply<O>> {
    try {
      return await killOnTimeout(host, limitMs, () => host.control(op, request, { lane }));
    } catch (error) {
      // A failed reading says nothing about operations under the KEK.
      if (error instanceof HostFailure && op !== Op.readKeks) this.replaceIfBroken(host, error.failure);
      throw error;
    } finally {
      this.#options.onDone();
    }
  }

  /** Returns whether a host was replaced for this unknown code within the last minute. */
  #wasReplacedFor({ rv, unknownRv }: WireFailure): boolean {
    if (unknownRv !== true || rv === undefined) return false;
    const now = performance.now();
    if (now - (this.#unknownRvAt.get(rv) ?? -Infinity) < UNKNOWN_RV_MS) return true;
    this.#unknownRvAt.set(rv, now);
    return false;
  }
}
