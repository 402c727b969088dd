// The socket on which an operator hands over the PIN: the PIN's bytes until the end of what is sent, then one line of
// JSON back with what came of it. Only the plugin's own user and root can connect.
import { createServer, type Socket } from "node:net";
import { KmsError } from "../errors.js";
import { bindSocket } from "./socket.js";

/** What came of a PIN that was handed over. */
export interface UnlockAnswer {
  /** The token has taken it. */
  readonly unlocked: boolean;
  readonly message: string;
}

export interface UnlockOptions {
  readonly path: string;
  /** Bytes; who sends more is cut off. */
  readonly maxPinBytes: number;
  /** Tries a PIN, a buffer of its own. A KmsError is the answer. */
  readonly take: (pin: Buffer) => Promise<UnlockAnswer>;
}

export interface RunningUnlock {
  stop(): void;
}

const SOCKET_MODE = 0o600;
const MAX_CONNECTIONS = 4;
const SILENT_MS = 10_000;

/** @throws KmsError SOCKET_UNUSABLE */
export async function startUnlock(options: UnlockOptions): Promise<RunningUnlock> {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    serve(socket, options);
  });
  server.maxConnections = MAX_CONNECTIONS;
  const settings = { path: options.path, abstract: false, mode: SOCKET_MODE };
  const bound = await bindSocket(server, settings, () => Promise.resolve("a process listens there"));
  return {
    stop: () => {
      bound.remove();
      server.close();
    },
  };
}

function serve(socket: Socket, { maxPinBytes, take }: UnlockOptions): void {
  const bytes = Buffer.alloc(maxPinBytes);
  let length = 0;
  socket.setTimeout(SILENT_MS, () => socket.destroy());
  socket.on("error", () => undefined);
  socket.on("close", () => bytes.fill(0));
  socket.on("data", (chunk: Buffer) => {
    if (length + chunk.length <= maxPinBytes) length += chunk.copy(bytes, length);
    else socket.destroy();
    chunk.fill(0);
  });
  socket.on("end", () => {
    socket.setTimeout(0);
    void answer(Buffer.from(bytes.subarray(0, length)), take).then((line) => socket.end(`${line}\n`));
    bytes.fill(0);
  });
}

async function answer(pin: Buffer, take: UnlockOptions["take"]): Promise<string> {
  try {
    return JSON.stringify(await take(pin));
  } catch (error) {
    return JSON.stringify({ unlocked: false, message: KmsError.from(error).message });
  }
}
