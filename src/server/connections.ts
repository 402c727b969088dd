// Limits the connections to the socket and decides which one is closed to admit a new one. A connection costs almost
// nothing until it sends bytes, and counts as in use from its first request on. A crowd in one state does not close
// connections in another: silent ones close no client that has just connected.
import { constants, type Http2Server, type ServerHttp2Session } from "node:http2";
import type { Socket } from "node:net";
import type { LimitObserver, OpenRequests } from "./open-requests.js";
import { Pace } from "./pace.js";

/** Maximum number of connections in use. Each provider entry of each API server has one, and two during a reload. */
export const MAX_IN_USE = 256;
/**
 * Maximum number of connections in each state before the first request: they have sent nothing, wait for HTTP/2 to begin, or
 * have begun. Beyond it the oldest in that state is closed.
 */
export const MAX_NEW = 256;
/** Length of the connection preface, which every HTTP/2 client sends first (RFC 9113 section 3.4). */
const PREFACE_BYTES = 24;
/** Time after which a connection that has not sent a whole preface is closed, in ms, and how often this is checked. */
const SILENT_MS = 10_000;
const SWEEP_MS = 1_000;
/**
 * Age at which an open request shows that its client is stuck, in ms: a request that is sent whole and whose answer is
 * read ends sooner (hsm.requestTimeout).
 */
const STUCK_MS = 3_000;

/** Connections in one state, in the order in which they reached it, and when each was accepted, in ms. */
type Crowd = Map<Socket, number>;

/** Limits the connections to the socket. */
export class Connections {
  readonly #requests: OpenRequests;
  readonly #observe: LimitObserver;
  /** Without a request so far, by state: see MAX_NEW. */
  readonly #silent: Crowd = new Map();
  readonly #waiting: Crowd = new Map();
  readonly #begun: Crowd = new Map();
  readonly #withoutRequest = [this.#silent, this.#waiting, this.#begun];
  /** Ordered by their last request, the least recent first. */
  readonly #inUse = new Set<ServerHttp2Session>();
  readonly #sockets = new WeakMap<ServerHttp2Session, Socket>();
  readonly #pace = new Pace();
  #sweep: NodeJS.Timeout | undefined;
  #number = 0;

  constructor(requests: OpenRequests, observe: LimitObserver) {
    this.#requests = requests;
    this.#observe = observe;
  }

  /** Adds an accepted connection, and passes it to HTTP/2 as soon as it has sent bytes. */
  add(socket: Socket, server: Http2Server): void {
    const acceptedAt = performance.now();
    this.#pace.accepted();
    socket.on("error", () => undefined);
    socket.once("close", () => {
      for (const crowd of this.#withoutRequest) crowd.delete(socket);
      this.#pace.forget(socket);
    });
    this.#join(this.#silent, socket, acceptedAt);
    socket.once("readable", () => {
      this.#silent.delete(socket);
      this.#join(this.#waiting, socket, acceptedAt);
      this.#pace.admit(socket, () => {
        this.#waiting.delete(socket);
        if (socket.destroyed) return;
        this.#join(this.#begun, socket, acceptedAt);
        this.#begin(socket, server);
      });
    });
    this.#sweep ??= setTimeout(this.#closeSilent, SWEEP_MS).unref();
  }

  /** Adds a connection to those in one state, and closes the oldest of them if there are too many. */
  #join(crowd: Crowd, socket: Socket, acceptedAt: number): void {
    crowd.set(socket, acceptedAt);
    const [oldest] = crowd.keys();
    if (crowd.size <= MAX_NEW || oldest === undefined) return;
    this.#observe("too many connections");
    crowd.delete(oldest);
    oldest.destroy();
  }

  /** Passes a connection to HTTP/2, which begins with the bytes read so far. */
  #begin(socket: Socket, server: Http2Server): void {
    this.#number += 1;
    nameConnection(socket, this.#number);
    server.once("session", (session) => {
      this.#sockets.set(session, socket);
      session.once("close", () => this.#inUse.delete(session));
    });
    server.emit("connection", socket);
  }

  /** Records that a request has arrived on a connection. */
  used(session: ServerHttp2Session): void {
    const socket = this.#sockets.get(session);
    if (socket !== undefined) {
      this.#begun.delete(socket);
      this.#pace.took(socket);
    }
    this.#inUse.delete(session);
    this.#inUse.add(session);
    if (this.#inUse.size > MAX_IN_USE) this.#closeOne();
  }

  /** Closes the connections that have not had a request. */
  closeNew(): void {
    clearTimeout(this.#sweep);
    for (const crowd of this.#withoutRequest) for (const socket of crowd.keys()) socket.destroy();
  }

  /** Closes the connections that have not sent a whole preface in SILENT_MS. */
  readonly #closeSilent = (): void => {
    const before = performance.now() - SILENT_MS;
    let left = 0;
    for (const crowd of this.#withoutRequest) {
      for (const [socket, acceptedAt] of crowd) {
        if (acceptedAt <= before && socket.bytesRead < PREFACE_BYTES) socket.destroy();
        else left += 1;
      }
    }
    this.#sweep = left === 0 ? undefined : setTimeout(this.#closeSilent, SWEEP_MS).unref();
  };

  /**
   * Closes a connection whose requests do not end; otherwise the one that has been idle longest; otherwise the one with
   * the most open requests.
   */
  #closeOne(): void {
    let stuck: ServerHttp2Session | undefined;
    let idle: ServerHttp2Session | undefined;
    let heaviest: ServerHttp2Session | undefined;
    let most = 0;
    for (const session of this.#inUse) {
      const { count, oldestMs } = this.#requests.heldBy(session);
      if (oldestMs > STUCK_MS) stuck ??= session;
      if (count === 0) idle ??= session;
      if (count > most) [heaviest, most] = [session, count];
    }
    const leaving = stuck ?? idle ?? heaviest;
    if (leaving === undefined) return;
    this.#inUse.delete(leaving);
    this.#observe("too many connections");
    // GOAWAY reports which requests were processed: the client may send the others again on another connection.
    leaving.destroy(undefined, constants.NGHTTP2_NO_ERROR);
  }
}

/** Gives a connection a name, which grpc-js reports as the peer of a call: a unix socket's peer has no address. */
function nameConnection(socket: Socket, number: number): void {
  Object.defineProperty(socket, "remoteAddress", { value: `connection ${number}` });
}
