// Keeps a unix socket bound as long as the plugin runs. Another process may remove its file, for instance a cleaner of
// temporary folders. Then nobody could connect although the plugin looks healthy, so the socket is bound again.
import type { Server } from "node:net";
import { KmsError } from "../errors.js";
import { bindSocket, type AskPeer, type BoundSocket, type SocketSettings } from "./socket.js";

/** Time between two checks of the file, in ms. */
const CHECK_EVERY_MS = 2_000;

/** A socket that is bound again when its file is removed. */
export interface KeptSocket {
  /** Returns why nobody can connect, and what to do; undefined if clients can connect. */
  problem(): string | undefined;
  /** Binds the socket again if its file was removed. This also happens regularly, without a call. */
  rebind(): Promise<void>;
  /** Refuses new connections and removes the file. */
  stop(): void;
}

/** Receives why nobody can connect, and undefined once clients can connect again. */
export type SocketObserver = (problem: string | undefined) => void;

/** What a kept socket needs to check itself and to report problems. */
export interface SocketUse {
  readonly ask: AskPeer;
  /** What a missing or replaced file means, as in "no operator can submit a PIN". */
  readonly consequence: string;
  readonly observe?: SocketObserver | undefined;
}

/**
 * Binds a server that `make` returns to the socket, and another one whenever the socket's file was removed.
 * @throws KmsError SOCKET_UNUSABLE
 */
export async function keepSocket(
  settings: SocketSettings,
  make: () => Server,
  use: SocketUse,
): Promise<KeptSocket> {
  const bind = async (): Promise<Bound> => {
    const server = make();
    return { server, socket: await bindSocket(server, settings, use.ask) };
  };
  return new BoundAgain(settings.path, bind, await bind(), use);
}

class BoundAgain implements KeptSocket {
  readonly #path: string;
  readonly #bind: () => Promise<Bound>;
  readonly #use: SocketUse;
  readonly #timer: NodeJS.Timeout;
  #current: Bound;
  /** Why the last attempt to bind again failed. */
  #failure: string | undefined;
  #reported: string | undefined;
  #rebinding: Promise<void> | undefined;
  #isStopped = false;

  constructor(path: string, bind: () => Promise<Bound>, first: Bound, use: SocketUse) {
    this.#path = path;
    this.#bind = bind;
    this.#current = first;
    this.#use = use;
    this.#timer = setInterval(() => void this.rebind(), CHECK_EVERY_MS).unref();
  }

  problem(): string | undefined {
    return describe(this.#path, this.#current.socket.state(), this.#use.consequence, this.#failure);
  }

  rebind(): Promise<void> {
    return (this.#rebinding ??= this.#tryToRebind().finally(() => {
      this.#rebinding = undefined;
      this.#report();
    }));
  }

  stop(): void {
    this.#isStopped = true;
    clearInterval(this.#timer);
    close(this.#current);
  }

  async #tryToRebind(): Promise<void> {
    this.#report();
    if (this.#isStopped || this.#current.socket.state() !== "gone") return;
    try {
      const { server } = this.#current;
      const again = await this.#bind();
      server.close();
      this.#current = again;
      this.#failure = undefined;
      this.#closeIfStopped();
    } catch (error) {
      this.#failure = KmsError.from(error).message;
    }
  }

  /** The plugin may have stopped while the socket was bound. */
  #closeIfStopped(): void {
    if (this.#isStopped) close(this.#current);
  }

  #report(): void {
    const problem = this.problem();
    if (this.#isStopped || problem === this.#reported) return;
    this.#reported = problem;
    this.#use.observe?.(problem);
  }
}

interface Bound {
  readonly server: Server;
  readonly socket: BoundSocket;
}

function close({ server, socket }: Bound): void {
  socket.remove();
  server.close();
}

function describe(
  path: string,
  state: ReturnType<BoundSocket["state"]>,
  consequence: string,
  failure: string | undefined,
): string | undefined {
  if (state === "ours") return undefined;
  if (state === "another") {
    return `another file has replaced the socket ${path}: ${consequence}; stop the process that made it, and remove it`;
  }
  return `${path} is gone: ${consequence}${failure === undefined ? "" : ` (${failure})`}`;
}
