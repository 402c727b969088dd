// Limits how fast connections are read, since Node reads up to 2 MiB from one connection before it serves the others. A
// connection that sends requests faster than they are served is paused, and of many new connections only a few begin at
// a time.
import type { Socket } from "node:net";

/** Maximum number of requests of one connection in one turn of the event loop; at that number it is paused. */
const MAX_EACH = 32;
/** The limit once all connections together have sent MAX_TOGETHER requests in that turn. */
const MAX_EACH_OF_MANY = 4;
const MAX_TOGETHER = 256;
/** Number of paused connections that are resumed in a turn; only one is while new connections wait. */
const RESUMED_A_TURN = 2;
/**
 * Number of new connections that begin in a turn. It varies, since each may send many requests at once or almost
 * nothing.
 */
const BEGUN_A_TURN = { least: 2, most: 16 };

/** The handle that HTTP/2 has taken over from its socket; Node has no public API for it. */
interface Handle {
  readStop?(): unknown;
  readStart?(): unknown;
}

/** Limits how fast connections are read. */
export class Pace {
  readonly #taken = new Map<Socket, number>();
  /** In the order in which they are resumed. */
  readonly #paused = new Set<Socket>();
  readonly #new = new Map<Socket, () => void>();
  #together = 0;
  #begun = 0;
  #mayBegin = BEGUN_A_TURN.most;
  #isScheduled = false;

  /** Calls `begin`, which starts reading the connection, in its turn. */
  admit(socket: Socket, begin: () => void): void {
    this.#new.set(socket, begin);
    socket.once("close", () => this.#new.delete(socket));
    this.#beginSome();
    this.#schedule();
  }

  /** Counts a request that has arrived on a connection, and pauses the connection if there are too many. */
  took(socket: Socket): void {
    const taken = (this.#taken.get(socket) ?? 0) + 1;
    this.#taken.set(socket, taken);
    this.#together += 1;
    const most = this.#together > MAX_TOGETHER ? MAX_EACH_OF_MANY : MAX_EACH;
    if (taken > most && !this.#paused.has(socket)) {
      this.#paused.add(socket);
      handleOf(socket)?.readStop?.();
    }
    this.#schedule();
  }

  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    setImmediate(this.#endTurn);
  }

  readonly #endTurn = (): void => {
    this.#isScheduled = false;
    this.#taken.clear();
    const { least, most } = BEGUN_A_TURN;
    const factor = this.#together > MAX_TOGETHER ? 0.5 : 2;
    this.#mayBegin = Math.min(most, Math.max(least, this.#mayBegin * factor));
    this.#together = 0;
    this.#begun = 0;
    const resumed = this.#new.size > 0 ? 1 : RESUMED_A_TURN;
    for (const socket of [...this.#paused].slice(0, resumed)) {
      this.#paused.delete(socket);
      if (!socket.destroyed) handleOf(socket)?.readStart?.();
    }
    this.#beginSome();
    if (this.#paused.size > 0 || this.#new.size > 0) this.#schedule();
  };

  /** Begins the newest and the oldest in turn: a new client does not wait for a crowd, and none waits forever. */
  #beginSome(): void {
    const waiting = [...this.#new.keys()];
    while (waiting.length > 0 && this.#begun < this.#mayBegin) {
      const socket = this.#begun % 2 === 0 ? waiting.pop() : waiting.shift();
      const begin = socket && this.#new.get(socket);
      if (socket !== undefined) this.#new.delete(socket);
      this.#begun += 1;
      begin?.();
    }
  }
}

function handleOf(socket: Socket): Handle | null | undefined {
  return (socket as unknown as { readonly _handle?: Handle | null })._handle;
}
