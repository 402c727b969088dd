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
  { ask, consequence, observe }: SocketUse,
): Promise<KeptSocket> {
  const bind = async (): Promise<Bound> => {
    const server = make();
    return { server, socket: await bindSocket(server, settings, ask) };
  };
  let current = await bind();
  let failure: string | undefined;
  let stopped = false;
  const isStopped = (): boolean => stopped;
  const problem = (): string | undefined =>
    describe(settings.path, current.socket.state(), consequence, failure);
  let reported: string | undefined;
  const report = (): void => {
    const news = problem();
    if (isStopped() || news === reported) return;
    reported = news;
    observe?.(news);
  };
  const tryToRebind = async (): Promise<void> => {
    report();
    if (isStopped() || current.socket.state() !== "gone") return;
    try {
      const { server } = current;
      const again = await bind();
      server.close();
      current = again;
      failure = undefined;
      if (isStopped()) close(current);
    } catch (error) {
      failure = KmsError.from(error).message;
    }
  };
  let rebinding: Promise<void> | undefined;
  const rebind = (): Promise<void> =>
    (rebinding ??= tryToRebind().finally(() => {
      rebinding = undefined;
      report();
    }));
  const timer = setInterval(() => void rebind(), CHECK_EVERY_MS).unref();
  return {
    problem,
    rebind,
    stop: () => {
      stopped = true;
      clearInterval(timer);
      close(current);
    },
  };
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
