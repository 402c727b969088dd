// Limits how much is read in one turn of the event loop. Node would read from every connection that has sent something,
// up to 2 MiB each, before anything else happens. Here a turn ends after some requests, and the next one begins with the
// connections that send few.
import type { Socket } from "node:net";
import { NewConnections } from "./new-connections.js";

/** Maximum number of requests of one connection in a turn; at that number it is stopped. */
const MAX_EACH = 32;
/** Number of requests of all connections at which a turn ends: connections that have not been read yet are stopped. */
const MAX_TOGETHER = 64;
/**
 * Maximum number of recent requests of a connection that is read in every turn, the oldest connection first.
 * kube-apiserver sends a few a minute. If there is more to read than fits in a turn, connections that have sent more, or
 * no request yet, take turns.
 */
const FEW = 16;
/** Time in which the number of recent requests halves, in ms. */
const HALF_LIFE_MS = 1_000;
/**
 * Maximum number of turns in a row that only accept connections and read those that send few requests. libuv accepts
 * one connection a turn, so a client that connects behind many others needs short turns.
 */
const MAX_ACCEPTING = 16;

/** The handle that HTTP/2 has taken over from its socket; Node has no public API for it. */
interface Handle {
  readStop?(): unknown;
  readStart?(): unknown;
}

/** How many requests a connection has sent recently, at an instant of performance.now(). */
interface Recent {
  count: number;
  at: number;
}

/** Limits how much is read in one turn of the event loop. */
export class Pace {
  /** The connections that have begun, the oldest first; undefined before the first request. */
  readonly #recent = new Map<Socket, Recent | undefined>();
  /** In the order in which they were stopped. */
  readonly #stopped = new Set<Socket>();
  readonly #new = new NewConnections();
  /** Requests of this turn, by connection and together. */
  readonly #taken = new Map<Socket, number>();
  #together = 0;
  /** Connections that have begun since the last turn. Their first requests were read before, so they do not end a turn. */
  readonly #beginning = new Set<Socket>();
  #hasAccepted = false;
  #acceptingTurns = 0;
  #isScheduled = false;

  /** Records that a connection was accepted. */
  accepted(): void {
    this.#hasAccepted = true;
    this.#schedule();
  }

  /** Calls `begin`, which starts reading the connection, in its turn. */
  admit(socket: Socket, begin: () => void): void {
    this.#new.add(socket, () => {
      this.#recent.set(socket, undefined);
      this.#beginning.add(socket);
      begin();
    });
    this.#schedule();
  }

  /** Forgets a closed connection. */
  forget(socket: Socket): void {
    for (const sockets of [this.#new, this.#recent, this.#stopped]) sockets.delete(socket);
  }

  /** Counts a request that has arrived on a connection, and stops reading if there are too many. */
  took(socket: Socket): void {
    if (!this.#recent.has(socket)) return;
    const now = performance.now();
    this.#recent.set(socket, { count: decayed(this.#recent.get(socket), now) + 1, at: now });
    const taken = (this.#taken.get(socket) ?? 0) + 1;
    this.#taken.set(socket, taken);
    if (taken === MAX_EACH) this.#stop(socket);
    this.#schedule();
    if (this.#beginning.has(socket)) return;
    this.#together += 1;
    if (this.#together === MAX_TOGETHER) for (const one of this.#recent.keys()) this.#stop(one);
  }

  #stop(socket: Socket): void {
    this.#stopped.add(socket);
    handleOf(socket)?.readStop?.();
  }

  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    setImmediate(this.#endTurn);
  }

  readonly #endTurn = (): void => {
    this.#isScheduled = false;
    const isAccepting = this.#hasAccepted && this.#acceptingTurns < MAX_ACCEPTING;
    this.#acceptingTurns = isAccepting ? this.#acceptingTurns + 1 : 0;
    this.#hasAccepted = false;
    this.#beginning.clear();
    this.#new.endTurn(isAccepting);
    this.#taken.clear();
    this.#together = 0;
    // HTTP/2 reads again by itself once it has written something.
    for (const socket of this.#stopped) handleOf(socket)?.readStop?.();
    this.#resumeLight();
    if (!isAccepting) this.#resumeOthers();
    if (this.#stopped.size > 0 || this.#new.size > 0) this.#schedule();
  };

  /** Reads again from the stopped connections that send few requests. */
  #resumeLight(): void {
    if (this.#stopped.size === 0) return;
    const now = performance.now();
    for (const [socket, recent] of this.#recent) {
      if (recent !== undefined && decayed(recent, now) <= FEW) this.#resume(socket);
    }
  }

  /**
   * Reads again from two of the other stopped connections: the one that has sent least (of several the newest), and the
   * one that was stopped first.
   */
  #resumeOthers(): void {
    const now = performance.now();
    let least = Infinity;
    let newest: Socket | undefined;
    for (const socket of this.#stopped) {
      const count = decayed(this.#recent.get(socket), now);
      if (count > least) continue;
      least = count;
      newest = socket;
    }
    if (newest !== undefined) this.#resume(newest);
    const [first] = this.#stopped;
    if (first !== undefined) this.#resume(first);
  }

  #resume(socket: Socket): void {
    if (this.#stopped.delete(socket) && !socket.destroyed) handleOf(socket)?.readStart?.();
  }
}

function decayed(recent: Recent | undefined, now: number): number {
  return recent === undefined ? 0 : recent.count * 0.5 ** ((now - recent.at) / HALF_LIFE_MS);
}

function handleOf(socket: Socket): Handle | null | undefined {
  return (socket as unknown as { readonly _handle?: Handle | null })._handle;
}
