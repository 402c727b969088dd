// Decides which requests are served when, so that no connection can starve the others. Each has a share of what is
// served at once and a turn while requests wait; if there are too many, the connection that holds the most loses some.
// kube-apiserver sends a request whole and reads its answer at once; a client that does not loses the request.
import { constants, type ServerHttp2Session, type ServerHttp2Stream } from "node:http2";

/** From its first byte until its answer has been read; the HSM's part is over in hsm.requestTimeout, below 3 s. */
export const MAX_REQUEST_MS = 10_000;
/** Over all connections, in whatever state. */
export const MAX_OPEN = 2_048;
/** Served at once, shared by the connections that have requests: two of them have as much as each may open. */
export const MAX_SERVED = 256;
/** Of those that are served, bodies that are not whole after UNFINISHED_MS: up to 512 KiB each. */
export const MAX_UNFINISHED = 128;
const UNFINISHED_MS = 1_000;
/** A body of 40 KiB comes in 3 DATA frames or some more. Each keeps what was read from the socket with it, up to 64 KiB. */
const MAX_PIECES = 8;
/** Requests that begin in one turn of the event loop: about 10 ms of work, after which others are looked at. */
const MAX_A_TURN = 64;
const SWEEP_MS = 500;

export type Limit =
  | "too many connections"
  | "too many requests"
  | "too many unfinished requests"
  | "too many pieces"
  | "too late";

/** Told of every request and connection that was ended for a limit. */
export type LimitObserver = (limit: Limit) => void;

interface OpenRequest {
  readonly stream: ServerHttp2Stream;
  readonly owner: Owner;
  readonly since: number;
  /** Undefined once it is served. */
  begin: (() => void) | undefined;
}

class Owner {
  readonly open = new Set<OpenRequest>();
  readonly waiting: OpenRequest[] = [];

  get served(): number {
    return this.open.size - this.waiting.length;
  }
}

export class OpenRequests {
  readonly #observe: LimitObserver;
  /** The oldest first. */
  readonly #open = new Set<OpenRequest>();
  readonly #owners = new Map<ServerHttp2Session, Owner>();
  /** Those with requests that wait, in the order of their turns. */
  readonly #waiting = new Set<Owner>();
  #begunThisTurn = 0;
  #turn: NodeJS.Immediate | undefined;
  #sweep: NodeJS.Timeout | undefined;

  constructor(observe: LimitObserver) {
    this.#observe = observe;
  }

  stop(): void {
    clearTimeout(this.#sweep);
    clearImmediate(this.#turn);
  }

  /** How many requests of a connection are open, and for how long the oldest of them has been, in ms. */
  heldBy(session: ServerHttp2Session): { readonly count: number; readonly oldestMs: number } {
    const open = this.#owners.get(session)?.open;
    const [oldest] = open ?? [];
    const oldestMs = oldest === undefined ? 0 : performance.now() - oldest.since;
    return { count: open?.size ?? 0, oldestMs };
  }

  /** Takes a request, and calls `begin` when it is its turn, unless it has ended before. */
  take(session: ServerHttp2Session, stream: ServerHttp2Stream, begin: () => void): void {
    const owner = this.#owners.get(session) ?? new Owner();
    if (this.#open.size >= MAX_OPEN && !this.#makeRoom(owner)) {
      this.#refuse(stream, "too many requests", constants.NGHTTP2_REFUSED_STREAM);
      return;
    }
    const request: OpenRequest = { stream, owner, since: performance.now(), begin };
    this.#owners.set(session, owner);
    this.#open.add(request);
    owner.open.add(request);
    owner.waiting.push(request);
    stream.once("close", () => {
      this.#forget(request);
      if (owner.open.size === 0) this.#owners.delete(session);
    });
    this.#waiting.add(owner);
    this.#sweep ??= setTimeout(this.#endLate, SWEEP_MS).unref();
    // Where others wait already, this one waits behind them.
    if (this.#waiting.size === 1) this.#serve();
    else this.#turn ??= setImmediate(this.#endTurn);
  }

  /** Begins what has its turn: one request of each connection after another, each within its share. */
  readonly #serve = (): void => {
    const share = Math.max(1, Math.floor(MAX_SERVED / this.#owners.size));
    for (let blocked = 0; blocked < this.#waiting.size && this.#begunThisTurn < MAX_A_TURN;) {
      const [owner] = this.#waiting;
      if (owner === undefined) break;
      this.#waiting.delete(owner);
      if (owner.served < share) {
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
    const { begin, stream } = request;
    request.begin = undefined;
    begin();
    // A request that grpc-js has refused at once is not read; to listen would begin that, and keep it open.
    if (stream.readableFlowing === null) return;
    let pieces = 0;
    stream.on("data", () => {
      pieces += 1;
      if (pieces > MAX_PIECES) this.#end(request, "too many pieces");
    });
  }

  /** Ends a request of the connection that has the most. Returns false when that is the one that asks for room. */
  #makeRoom(asking: Owner): boolean {
    // A connection that holds the average number displaces no other: few hold more, and the search takes long.
    if (asking.open.size * this.#owners.size >= MAX_OPEN) return false;
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

  /** Those of the connection that has the most of them, one after another. */
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
    // close() alone waits for a peer that reads nothing.
    stream.destroy();
  }
}
