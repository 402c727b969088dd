// The connections to the socket: how many there may be, and which one is closed for a new one. A connection costs
// almost nothing until it sends bytes, and counts as in use from its first request on.
import { constants, type Http2Server, type ServerHttp2Session } from "node:http2";
import type { Socket } from "node:net";
import type { LimitObserver, OpenRequests } from "./open-requests.js";
import { Pace } from "./pace.js";

/** In use: each provider entry of each API server has one, and a reload overlaps two. */
export const MAX_IN_USE = 256;
/** Without a request so far; most cost almost nothing. The oldest is closed, however fast others come. */
export const MAX_NEW = 256;
/** What every client of HTTP/2 sends first, whole (RFC 9113 section 3.4). */
const PREFACE_BYTES = 24;
/** A connection that has sent less than that for this long is closed. */
const SILENT_MS = 10_000;
/** No request takes that long whose client sends it whole and reads its answer: see hsm.requestTimeout. */
const STUCK_MS = 3_000;

export class Connections {
  readonly #requests: OpenRequests;
  readonly #observe: LimitObserver;
  /** The oldest first. */
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

  /** Takes a connection that has just been accepted, and passes it to HTTP/2 once it has sent bytes. */
  add(socket: Socket, server: Http2Server): void {
    this.#number += 1;
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

  /** HTTP/2 begins with what has been read until then. */
  #begin(socket: Socket, server: Http2Server): void {
    if (socket.destroyed) return;
    server.once("session", (session) => {
      this.#sockets.set(session, socket);
      session.once("close", () => this.#inUse.delete(session));
    });
    server.emit("connection", socket);
  }

  /** Notes that a request has come on a connection. */
  used(session: ServerHttp2Session): void {
    const socket = this.#sockets.get(session);
    if (socket !== undefined) {
      this.#new.delete(socket);
      this.#pace.took(socket);
    }
    this.#inUse.delete(session);
    this.#inUse.add(session);
    if (this.#inUse.size > MAX_IN_USE) this.#giveWay();
  }

  /** Closes those that have had no request. */
  closeNew(): void {
    for (const socket of this.#new) socket.destroy();
  }

  /**
   * Closes a connection whose requests do not end; or else the one that has been without a request longest; or else
   * the one that holds the most.
   */
  #giveWay(): void {
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
    // Tells the client which requests were processed: it may send the rest again on another connection.
    leaving.destroy(undefined, constants.NGHTTP2_NO_ERROR);
  }
}

/** A unix socket's peer has no address: grpc-js then reports this name as the peer of a call. */
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
