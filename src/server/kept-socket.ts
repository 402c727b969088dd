// The unix socket for as long as the plugin runs: somebody may remove its file, a cleaner of temporary folders for
// instance, and the plugin would serve nobody and look well.
import type { Server } from "node:net";
import { KmsError } from "../errors.js";
import { bindSocket, type AskPeer, type BoundSocket, type SocketSettings } from "./socket.js";

export interface KeptSocket {
  /** Why nobody can connect, and what to do; undefined while all is well. */
  problem(): string | undefined;
  /** Makes the socket again where its file is gone. */
  mend(): Promise<void>;
  /** Takes no new connections and removes the file. */
  stop(): void;
}

/** Binds a server that `make` returns, and another one when its file is gone. @throws KmsError SOCKET_UNUSABLE */
export async function keepSocket(
  settings: SocketSettings,
  make: () => Server,
  ask: AskPeer,
): Promise<KeptSocket> {
  const bind = async (): Promise<{ server: Server; bound: BoundSocket }> => {
    const server = make();
    return { server, bound: await bindSocket(server, settings, ask) };
  };
  let current = await bind();
  let failure: string | undefined;
  let stopped = false;
  const isStopped = (): boolean => stopped;
  const { path } = settings;
  const problem = (): string | undefined => {
    const state = current.bound.state();
    if (state === "ours") return undefined;
    if (state === "another") {
      return `${path} is not this plugin's any more, another file is in its place: kube-apiserver cannot reach this plugin; stop what put it there, and remove it`;
    }
    return `${path} is gone: kube-apiserver cannot reach this plugin${failure === undefined ? "" : ` (${failure})`}`;
  };
  return {
    problem,
    mend: async () => {
      if (isStopped() || current.bound.state() !== "gone") return;
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
    },
    stop: () => {
      stopped = true;
      close(current);
    },
  };
}

function close({ server, bound }: { server: Server; bound: BoundSocket }): void {
  bound.remove();
  server.close();
}
