// Limits the connections to the socket and decides which one is closed to admit a new one. A connection costs almost
// nothing until it sends bytes, and counts as in use from its first request on.
import { constants, type Http2Server, type ServerHttp2Session } from "node:http2";
import type { Socket } from "node:net";
import type { LimitObserver, OpenRequests } from "./open-requests.js";
import { Pace } from "./pace.js";

/** Maximum number of connections in use. Each provider entry of each API server has one, and two during a reload. */
export const MAX_IN_USE = 256;
/** Maximum number of connections without a request so far; beyond it the oldest is closed. */
export const MAX_NEW = 256;
/** Length of the connection preface, which every HTTP/2 client sends first (RFC 9113 section 3.4). */
const PREFACE_BYTES = 24;
/** Time after which a connection that has not sent a whole preface is closed, in ms. */
const SILENT_MS = 10_000;
/**
 * Age at which an open request shows that its client is stuck, in ms: a request that is sent whole and whose answer is
 * read ends sooner (hsm.requestTimeout).
 */
const STUCK_MS = 3_000;

/** Limits the connections to the socket. */
export class Connections {
  readonly #requests: OpenRequests;
  readonly #observe: LimitObserver;
  /** Without a request so far, the oldest first. */
  readonly #new = new Set<Socket>();
  /** Ordered by their last request, the least recent first. */
  readonly #inUse = new Set<ServerHttp2Session>();
  readonly #sockets = new WeakMap<ServerHttp2Session, Socket>();
  readonly #pace = new Pace();
  #number = 0;

  constructor(requests: OpenRequests, observe: LimitObserver) {
    this.#requests = requests;
    this.#observe = observe;
  }

  /** Adds an accepted connection, and passes it to HTTP/2 as soon as it has sent bytes. */
  add(socket: Socket, server: Http2Server): void {
    this.#number += 1;
    this.#pace.accepted();
    nameConnection(socket, this.#number);
    closeIfSilent(socket);
    this.#new.add(socket);
    socket.once("close", () => this.#new.delete(socket));
    const [oldest] = this.#new;
    if (this.#new.size > MAX_NEW && oldest !== undefined) {
      this.#observe("too many connections");
      this.#new.delete(oldest);
      oldest.destroy();
    }
    socket.once("readable", () => {
      this.#pace.admit(socket, () => {
        this.#begin(socket, server);
      });
    });
  }

  /** Passes a connection to HTTP/2, which begins with the bytes read so far. */
  #begin(socket: Socket, server: Http2Server): void {
    if (socket.destroyed) return;
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
      this.#new.delete(socket);
      this.#pace.took(socket);
    }
    this.#inUse.delete(session);
    this.#inUse.add(session);
    if (this.#inUse.size > MAX_IN_USE) this.#closeOne();
  }

  /** Closes the connections that have not had a request. */
  closeNew(): void {
    for (const socket of this.#new) socket.destroy();
  }

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

function closeIfSilent(socket: Socket): void {
  socket.on("error", () => undefined);
  const timer = setTimeout(() => {
    if (socket.bytesRead < PREFACE_BYTES) socket.destroy();
  }, SILENT_MS).unref();
  socket.once("close", () => {
    clearTimeout(timer);
  });
}
