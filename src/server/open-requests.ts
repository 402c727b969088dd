// Decides when each request is served, so that no connection can starve the others. Every connection may have an equal
// part of the requests served at once, and waiting requests take turns by connection. If too many requests are open,
// the connection with the most loses some. kube-apiserver sends a request whole and reads its answer at once; a client
// that does not do so loses the request.
import { constants, type ServerHttp2Session, type ServerHttp2Stream } from "node:http2";

/**
 * Maximum time from a request's first byte until its answer has been read, in ms; the HSM's part takes less than 3 s.
 */
export const MAX_REQUEST_MS = 10_000;
/** Maximum number of open requests on all connections, in any state. */
export const MAX_OPEN = 2_048;
/** The same for a cluster with a lower limit of served requests: a multiple of that limit, and a minimum. */
const OPEN_FACTOR = 8;
const LEAST_OPEN = 128;
/** Maximum number of requests served at once, shared by the connections that have requests. */
export const MAX_SERVED = 256;
/** Maximum number of served requests whose bodies are incomplete after UNFINISHED_MS; each holds up to 512 KiB. */
export const MAX_UNFINISHED = 128;
const UNFINISHED_MS = 1_000;
/** Maximum number of DATA frames of a request. 40 KiB need 3 or a few more; each keeps up to 64 KiB of socket data. */
const MAX_PIECES = 8;
/** Maximum number of requests that begin in one turn of the event loop; they take about 10 ms. */
const MAX_A_TURN = 64;
/** The same for one of several clusters: in each turn, a request waits for at most that many of each other cluster. */
const CLUSTER_A_TURN = 1;
const SWEEP_MS = 500;

/** Why a request or a connection was ended. */
export type Limit =
  | "too many connections"
  | "too many requests"
  | "too many unfinished requests"
  | "too many pieces"
  | "too late";

/** Called for every request and connection that was ended because of a limit. */
export type LimitObserver = (limit: Limit) => void;

interface OpenRequest {
  readonly stream: ServerHttp2Stream;
  readonly owner: Owner;
  readonly since: number;
  /** DATA frames of the body; zeroed and released once grpc-js has copied the message, or the request has ended. */
  readonly pieces: Buffer[];
  /** Undefined after the request has begun. */
  begin: (() => void) | undefined;
}

class Owner {
  readonly open = new Set<OpenRequest>();
  readonly waiting: OpenRequest[] = [];

  get served(): number {
    return this.open.size - this.waiting.length;
  }
}

/** Tracks the open requests and decides when each is served. */
export class OpenRequests {
  readonly #observe: LimitObserver;
  readonly #served: number;
  readonly #mostOpen: number;
  readonly #mostATurn: number;
  /** All open requests, the oldest first. */
  readonly #open = new Set<OpenRequest>();
  readonly #owners = new Map<ServerHttp2Session, Owner>();
  /** Owners with waiting requests, in the order of their turns. */
  readonly #waiting = new Set<Owner>();
  #begunThisTurn = 0;
  #turn: NodeJS.Immediate | undefined;
  #sweep: NodeJS.Timeout | undefined;

  /** @param quota maximum number of a cluster's requests that are served at once; undefined without clusters */
  constructor(observe: LimitObserver, quota?: number) {
    this.#observe = observe;
    this.#served = quota ?? MAX_SERVED;
    this.#mostOpen = Math.min(MAX_OPEN, Math.max(LEAST_OPEN, OPEN_FACTOR * this.#served));
    this.#mostATurn = quota === undefined ? MAX_A_TURN : CLUSTER_A_TURN;
  }

  /** Stops the timers. */
  stop(): void {
    clearTimeout(this.#sweep);
    clearImmediate(this.#turn);
  }

  /** Returns the number of a connection's open requests and the age of the oldest one, in ms. */
  heldBy(session: ServerHttp2Session): { readonly count: number; readonly oldestMs: number } {
    const open = this.#owners.get(session)?.open;
    const [oldest] = open ?? [];
    const oldestMs = oldest === undefined ? 0 : performance.now() - oldest.since;
    return { count: open?.size ?? 0, oldestMs };
  }

  /** Adds a request, and calls `begin` in its turn, unless the request has ended by then. */
  take(session: ServerHttp2Session, stream: ServerHttp2Stream, begin: () => void): void {
    const owner = this.#owners.get(session) ?? new Owner();
    if (this.#open.size >= this.#mostOpen && !this.#displaceOne(owner)) {
      this.#refuse(stream, "too many requests", constants.NGHTTP2_REFUSED_STREAM);
      return;
    }
    const request: OpenRequest = { stream, owner, since: performance.now(), pieces: [], begin };
    this.#owners.set(session, owner);
    this.#open.add(request);
    owner.open.add(request);
    owner.waiting.push(request);
    stream.once("close", () => {
      this.#forget(request);
      wipe(request.pieces);
      if (owner.open.size === 0) this.#owners.delete(session);
    });
    this.#waiting.add(owner);
    this.#sweep ??= setTimeout(this.#endLate, SWEEP_MS).unref();
    // If other connections have waiting requests, this one waits for its turn.
    if (this.#waiting.size === 1) this.#serve();
    else this.#turn ??= setImmediate(this.#endTurn);
  }

  /** Begins one request of each waiting connection in turn, as long as the connection is within its limit. */
  readonly #serve = (): void => {
    const most = Math.max(1, Math.floor(this.#served / this.#owners.size));
    for (let blocked = 0; blocked < this.#waiting.size && this.#begunThisTurn < this.#mostATurn;) {
      const [owner] = this.#waiting;
      if (owner === undefined) break;
      this.#waiting.delete(owner);
      if (owner.served < most) {
        this.#begin(owner.waiting.shift());
        blocked = 0;
      } else blocked += 1;
      if (owner.waiting.length > 0) this.#waiting.add(owner);
    }
    if (this.#begunThisTurn > 0) this.#turn ??= setImmediate(this.#endTurn);
  };

  readonly #endTurn = (): void => {
    this.#turn = undefined;
    this.#begunThisTurn = 0;
    this.#serve();
  };

  #begin(request: OpenRequest | undefined): void {
    if (request?.begin === undefined) return;
    this.#begunThisTurn += 1;
    const { begin, stream, pieces } = request;
    request.begin = undefined;
    begin();
    // grpc-js does not read a request that it refuses at once; a data listener would start reading and keep it open.
    if (stream.readableFlowing === null) return;
    stream.on("data", (piece: Buffer) => {
      pieces.push(piece);
      if (pieces.length > MAX_PIECES) this.#end(request, "too many pieces");
    });
    stream.on("end", () => {
      wipe(pieces);
    });
  }

  /** Ends a request of the connection that has the most; returns false if that is the asking connection itself. */
  #displaceOne(asking: Owner): boolean {
    // A connection with the average number of requests displaces no other: few have more, and the search is slow.
    if (asking.open.size * this.#owners.size >= this.#mostOpen) return false;
    let heaviest = asking;
    for (const owner of this.#owners.values()) if (owner.open.size > heaviest.open.size) heaviest = owner;
    const request = heaviest.waiting.at(-1) ?? [...heaviest.open].at(-1);
    if (heaviest === asking || request === undefined) return false;
    this.#end(request, "too many requests", constants.NGHTTP2_REFUSED_STREAM);
    return true;
  }

  readonly #endLate = (): void => {
    this.#sweep = undefined;
    const now = performance.now();
    const unfinished: OpenRequest[] = [];
    for (const request of this.#open) {
      if (request.since <= now - MAX_REQUEST_MS) this.#end(request, "too late");
      else if (request.since > now - UNFINISHED_MS) break;
      else if (request.begin === undefined && !request.stream.readableEnded) unfinished.push(request);
    }
    this.#endUnfinished(unfinished);
    if (this.#open.size > 0) this.#sweep = setTimeout(this.#endLate, SWEEP_MS).unref();
  };

  /** Ends unfinished requests above the limit, each time one of the connection that has the most of them. */
  #endUnfinished(unfinished: readonly OpenRequest[]): void {
    const byOwner = new Map<Owner, OpenRequest[]>();
    for (const request of unfinished) {
      byOwner.set(request.owner, [...(byOwner.get(request.owner) ?? []), request]);
    }
    for (let excess = unfinished.length - MAX_UNFINISHED; excess > 0; excess--) {
      const [most] = [...byOwner.values()].sort((a, b) => b.length - a.length);
      const request = most?.shift();
      if (request !== undefined) this.#end(request, "too many unfinished requests");
    }
  }

  #end(request: OpenRequest, limit: Limit, code: number = constants.NGHTTP2_CANCEL): void {
    this.#forget(request);
    this.#refuse(request.stream, limit, code);
  }

  #forget(request: OpenRequest): void {
    if (!this.#open.delete(request)) return;
    const { owner } = request;
    owner.open.delete(request);
    if (request.begin !== undefined) {
      owner.waiting.splice(owner.waiting.indexOf(request), 1);
      if (owner.waiting.length === 0) this.#waiting.delete(owner);
    }
    request.begin = undefined;
    if (this.#waiting.size > 0) this.#turn ??= setImmediate(this.#endTurn);
  }

  #refuse(stream: ServerHttp2Stream, limit: Limit, code: number): void {
    if (stream.destroyed || stream.closed) return;
    this.#observe(limit);
    stream.close(code);
    // close() alone would wait for a peer that does not read.
    stream.destroy();
  }
}

/** Zeroes pieces, which may hold DEK seeds, and removes them. */
function wipe(pieces: Buffer[]): void {
  for (const piece of pieces.splice(0)) piece.fill(0);
}
