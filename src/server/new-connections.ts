// Begins HTTP/2 on new connections, on a few in each turn of the event loop, and closes those whose client has gone.
import type { Socket } from "node:net";

/** Number of quiet new connections that begin in a turn, see QUIET_BYTES. */
const BEGUN_A_TURN = 16;
/**
 * Maximum number of bytes of a quiet new connection: gRPC's clients send fewer before they have the server's SETTINGS.
 * One that has sent more may hold many requests, so only one such connection begins in a turn.
 */
const QUIET_BYTES = 1_024;

/** The connections that have sent their first bytes and on which HTTP/2 has not begun. */
export class NewConnections {
  /** By what begins them, the oldest first: those of this turn, and those of earlier ones. */
  readonly #arrived = new Map<Socket, () => void>();
  readonly #waiting = new Map<Socket, () => void>();
  #isOldestNext = false;

  get size(): number {
    return this.#arrived.size + this.#waiting.size;
  }

  /** Adds a connection and what begins it: not before the next turn, in which Node reports whether the client has gone. */
  add(socket: Socket, begin: () => void): void {
    this.#arrived.set(socket, begin);
  }

  delete(socket: Socket): void {
    this.#arrived.delete(socket);
    this.#waiting.delete(socket);
  }

  /** Closes the connections whose client has gone, and begins some of the others, or none in a short turn. */
  endTurn(isShort: boolean): void {
    this.#closeEnded();
    if (!isShort) this.#beginSome();
    for (const [socket, begin] of this.#arrived) this.#waiting.set(socket, begin);
    this.#arrived.clear();
  }

  /** Closes the connections whose client has gone: an HTTP/2 session would cost more than all else about them. */
  #closeEnded(): void {
    for (const socket of this.#waiting.keys()) {
      if (!hasEnded(socket)) continue;
      this.#waiting.delete(socket);
      socket.destroy();
    }
  }

  /** Begins the newest and the oldest in turn: a new client does not wait for a crowd, and none waits forever. */
  #beginSome(): void {
    const waiting = [...this.#waiting.keys()];
    const isLoud = (socket: Socket): boolean => socket.readableLength > QUIET_BYTES;
    const quiet = waiting.filter((socket) => !isLoud(socket));
    for (let left = BEGUN_A_TURN; left > 0 && quiet.length > 0; left--) this.#beginOne(quiet);
    this.#beginOne(waiting.filter(isLoud));
  }

  #beginOne(waiting: Socket[]): void {
    const socket = this.#isOldestNext ? waiting.shift() : waiting.pop();
    if (socket === undefined) return;
    this.#isOldestNext = !this.#isOldestNext;
    const begin = this.#waiting.get(socket);
    this.#waiting.delete(socket);
    begin?.();
  }
}

/** Returns whether the client has closed the connection, even if not all that it sent has been read. Node has no public API. */
function hasEnded(socket: Socket): boolean {
  return (socket as unknown as { readonly _readableState: { readonly ended: boolean } })._readableState.ended;
}
