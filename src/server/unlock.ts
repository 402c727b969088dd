// The socket on which an operator passes the PIN: the client sends the PIN and ends its side; the plugin answers with
// the outcome as one line of JSON. A message that begins with a zero byte, which no PIN holds, is an order instead. Only
// the plugin's own user and root can connect.
import { createServer, type Server, type Socket } from "node:net";
import { KmsError } from "../errors.js";
import { keepSocket, type SocketObserver } from "./kept-socket.js";

/** The outcome of a PIN that an operator has passed. */
export interface UnlockAnswer {
  /** Whether the token is logged in. */
  readonly unlocked: boolean;
  readonly message: string;
  /** Whether a custodian's share was accepted. */
  readonly accepted?: boolean;
}

/** The socket for PINs, and what tries a received PIN. */
export interface UnlockOptions {
  readonly path: string;
  /** A client that sends more bytes is disconnected. */
  readonly maxPinBytes: number;
  /** Tries a PIN and owns its buffer. Its KmsError, if any, is the answer. */
  readonly take: (pin: Buffer) => Promise<UnlockAnswer>;
  /** What carries out orders of at most `maxBytes`; their buffers are zeroed afterwards. */
  readonly orders?: { readonly maxBytes: number; readonly obey: (order: Buffer) => Promise<object> };
  readonly observe?: SocketObserver | undefined;
}

/** A socket that accepts PINs. */
export interface RunningUnlock {
  /** Returns why no operator can connect to the socket, in one line; undefined if they can. */
  problem(): string | undefined;
  /** Refuses new connections and removes the socket. */
  stop(): void;
}

const SOCKET_MODE = 0o600;
const MAX_CONNECTIONS = 4;
const SILENT_MS = 10_000;

/** Starts to listen for PINs, and binds the socket again if its file is removed. @throws KmsError SOCKET_UNUSABLE */
export async function startUnlock(options: UnlockOptions): Promise<RunningUnlock> {
  const listen = (): Server => {
    const server = createServer({ allowHalfOpen: true }, (socket) => {
      serve(socket, options);
    });
    server.maxConnections = MAX_CONNECTIONS;
    return server;
  };
  const settings = { path: options.path, abstract: false, mode: SOCKET_MODE };
  return keepSocket(settings, listen, {
    ask: () => Promise.resolve("a process listens there"),
    consequence: "no operator can submit a PIN",
    observe: options.observe,
  });
}

const ORDER = 0;

function serve(socket: Socket, options: UnlockOptions): void {
  const { maxPinBytes, orders } = options;
  const bytes = Buffer.alloc(Math.max(maxPinBytes, 1 + (orders?.maxBytes ?? 0)));
  let length = 0;
  socket.setTimeout(SILENT_MS, () => socket.destroy());
  socket.on("error", () => undefined);
  socket.on("close", () => bytes.fill(0));
  socket.on("data", (chunk: Buffer) => {
    if (length + chunk.length <= bytes.length) length += chunk.copy(bytes, length);
    else socket.destroy();
    if (length > maxPinBytes && bytes[0] !== ORDER) socket.destroy();
    chunk.fill(0);
  });
  socket.on("end", () => {
    socket.setTimeout(0);
    const message = Buffer.alloc(length);
    bytes.copy(message);
    bytes.fill(0);
    void answer(message, options).then((line) => socket.end(`${line}\n`));
  });
}

async function answer(message: Buffer, { take, orders }: UnlockOptions): Promise<string> {
  try {
    if (message[0] !== ORDER || orders === undefined) return JSON.stringify(await take(message));
    try {
      return JSON.stringify(await orders.obey(message.subarray(1)));
    } finally {
      message.fill(0);
    }
  } catch (error) {
    return JSON.stringify({ unlocked: false, message: KmsError.from(error).message });
  }
}
