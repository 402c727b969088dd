// Bounds what callers can make the plugin hold: how many requests are open at once, how long one may be, and in how
// many pieces its body may come. kube-apiserver sends a request whole and reads its answer at once; who does neither
// loses that request, not the others theirs. grpc-js ends a request for a deadline of the caller's only.
import { constants, type ServerHttp2Stream } from "node:http2";
import type { ServerInterceptingCallInterface } from "@grpc/grpc-js";

/** From its first byte until its answer has been read; the HSM's part is over in hsm.requestTimeout, below 3 s. */
export const MAX_REQUEST_MS = 10_000;
/** Over all connections, in whatever state: more than the default hsm.queue, whose refusal says what to do. */
export const MAX_OPEN = 2_048;
/** Of those, bodies that are not whole. A few KiB each where they are whole, up to 512 KiB where not. */
export const MAX_UNFINISHED = 128;
/** A body of 40 KiB comes in 3 DATA frames or some more. Each keeps what was read from the socket with it, up to 64 KiB. */
const MAX_PIECES = 8;
const SWEEP_MS = 1_000;

export type Limit =
  | "too many connections"
  | "too many requests"
  | "too many unfinished requests"
  | "too many pieces"
  | "too late";

/** Told of every request and connection that was ended for a limit. */
export type LimitObserver = (limit: Limit) => void;

export class OpenRequests {
  /** Since when each is open, oldest first. */
  readonly #open = new Map<ServerHttp2Stream, number>();
  readonly #observe: LimitObserver;
  #sweep: NodeJS.Timeout | undefined;
  #counting = false;

  constructor(observe: LimitObserver) {
    this.#observe = observe;
  }

  /** Sees every request that has a method and leaves it as it is, without the cost of a call that is wrapped. */
  readonly interceptor = (
    _method: unknown,
    call: ServerInterceptingCallInterface,
  ): ServerInterceptingCallInterface => {
    // The stream alone tells when a request has really gone; grpc-js, pinned, keeps it in this field.
    this.#add((call as unknown as { stream: ServerHttp2Stream }).stream);
    return call;
  };

  stop(): void {
    clearTimeout(this.#sweep);
  }

  #add(stream: ServerHttp2Stream): void {
    if (this.#open.size >= MAX_OPEN) {
      const oldest = this.#oldestUnfinished();
      this.#end(oldest ?? stream, "too many requests");
      if (oldest === undefined) return;
    }
    this.#open.set(stream, performance.now());
    stream.once("close", () => this.#open.delete(stream));
    let pieces = 0;
    stream.on("data", () => {
      pieces += 1;
      if (pieces > MAX_PIECES) this.#end(stream, "too many pieces");
    });
    this.#sweep ??= setTimeout(this.#endLate, SWEEP_MS).unref();
    if (this.#open.size > MAX_UNFINISHED && !this.#counting) {
      this.#counting = true;
      // By then the bodies that came in the same read have been seen, too.
      setImmediate(this.#endUnfinished);
    }
  }

  readonly #endUnfinished = (): void => {
    this.#counting = false;
    const unfinished = [...this.#open.keys()].filter(isUnfinished);
    const excess = Math.max(0, unfinished.length - MAX_UNFINISHED);
    for (const stream of unfinished.slice(0, excess)) this.#end(stream, "too many unfinished requests");
  };

  readonly #endLate = (): void => {
    this.#sweep = undefined;
    const before = performance.now() - MAX_REQUEST_MS;
    for (const [stream, since] of this.#open) {
      if (since > before) break;
      this.#end(stream, "too late");
    }
    if (this.#open.size > 0) this.#sweep = setTimeout(this.#endLate, SWEEP_MS).unref();
  };

  #oldestUnfinished(): ServerHttp2Stream | undefined {
    for (const stream of this.#open.keys()) if (isUnfinished(stream)) return stream;
    return undefined;
  }

  #end(stream: ServerHttp2Stream, limit: Limit): void {
    this.#open.delete(stream);
    if (stream.destroyed || stream.closed) return;
    this.#observe(limit);
    stream.close(constants.NGHTTP2_ENHANCE_YOUR_CALM);
    // close() alone waits for a peer that reads nothing.
    stream.destroy();
  }
}

function isUnfinished(stream: ServerHttp2Stream): boolean {
  return !stream.readableEnded;
}
