// Limits the connections of the HTTP endpoints, which any user of the machine may open: each serves one request, and
// the oldest is closed if there are too many.
import type * as Http from "node:http";
import type { RequestListener, Server as HttpServer, ServerResponse } from "node:http";
import { createRequire } from "node:module";
import { createServer, type Server, type Socket } from "node:net";
import { Duplex } from "node:stream";

// An import of node:http would evaluate all its exports, and with them Node's WebSocket and fetch (on Node.js 24: 40 ms).
const { createServer: createHttpServer } = createRequire(import.meta.url)("node:http") as typeof Http;

/** Maximum number of connections that have not sent a request yet. */
const MAX_WAITING = 256;
/**
 * Maximum number of connections with a request. Any user can open more, so a request must be answered before this many
 * others have followed it.
 */
const MAX_ASKING = 512;
/** Maximum number of connections whose client has not read an answer that the kernel cannot hold. */
const MAX_UNREAD = 64;
const MAX_HEAD_BYTES = 8 * 1024;
/** Maximum time for the head of a request, and again for its answer, in ms. */
const TIMEOUT_MS = 5_000;
/** Requests answered in one turn of the event loop, so that kube-apiserver's are served in between. */
const MAX_A_TURN = 16;
const HEAD_END = "\r\n\r\n";
/** Maximum number of connections that wait to be accepted; the kernel has a limit of its own. */
export const BACKLOG = 4_096;

/** A connection for Node's HTTP server: it delivers the head of one request and passes the answer to the socket. */
class OneRequest extends Duplex {
  readonly #socket: Socket;
  readonly #onUnread: () => void;

  /** @param onUnread called when the client has not read what was written */
  constructor(socket: Socket, head: Buffer, onUnread: () => void) {
    super();
    this.#socket = socket;
    this.#onUnread = onUnread;
    socket.once("close", () => this.destroy());
    this.push(head);
  }

  override _read(): void {
    // The head was pushed in the constructor; nothing follows it.
  }

  override _write(chunk: Buffer, encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#socket.write(chunk, encoding, (error) => {
      done(error);
    });
    if (this.#socket.writableLength > 0) this.#onUnread();
  }

  override _final(done: () => void): void {
    this.#socket.end(done);
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#socket.destroy();
    done(error);
  }
}

/** Returns a server that passes at most one request of each connection to `listener`. */
export function createOneRequestServer(
  listener: RequestListener,
): Server & { readonly closeAll: () => void } {
  const http = createHttpServer({ maxHeaderSize: MAX_HEAD_BYTES }, listener);
  http.on("clientError", (_error, socket) => {
    socket.destroy();
  });
  const connections = new Connections(http);
  const server = createServer((socket) => {
    connections.add(socket);
  });
  return Object.assign(server, {
    closeAll: () => {
      connections.closeAll();
    },
  });
}

export interface HttpAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
}

/** Sends the only answer of a connection. Nobody stores it, and no browser guesses its type. */
export function sendAnswer(response: ServerResponse, { status, headers, body }: HttpAnswer): void {
  response.writeHead(status, {
    "content-length": body.length,
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    connection: "close",
    ...headers,
  });
  response.end(body);
}

class Connections {
  readonly #http: HttpServer;
  readonly #waiting = new Set<Socket>();
  readonly #asking = new Set<Socket>();
  readonly #unread = new Set<Socket>();
  readonly #heads: (() => void)[] = [];
  #scheduled = false;

  constructor(http: HttpServer) {
    this.#http = http;
  }

  add(socket: Socket): void {
    socket.on("error", () => undefined);
    let timer = setTimeout(() => socket.destroy(), TIMEOUT_MS).unref();
    hold(this.#waiting, socket, MAX_WAITING);
    let head = Buffer.alloc(0);
    const take = (chunk: Buffer): void => {
      head = Buffer.concat([head, chunk.subarray(0, MAX_HEAD_BYTES - head.length)]);
      const end = head.indexOf(HEAD_END);
      if (end < 0) {
        if (head.length >= MAX_HEAD_BYTES) socket.destroy();
        return;
      }
      socket.off("data", take).on("data", skip);
      clearTimeout(timer);
      timer = setTimeout(() => socket.destroy(), TIMEOUT_MS).unref();
      this.#answerSoon(socket, Buffer.from(head.subarray(0, end + HEAD_END.length)));
    };
    // Keeps reading to notice when the client leaves; stops if the client keeps sending.
    let skipped = 0;
    const skip = (chunk: Buffer): void => {
      skipped += chunk.length;
      if (skipped > MAX_HEAD_BYTES) socket.pause();
    };
    socket.on("data", take).on("end", () => socket.destroy());
    socket.once("close", () => {
      clearTimeout(timer);
      this.#waiting.delete(socket);
      this.#asking.delete(socket);
      this.#unread.delete(socket);
    });
  }

  closeAll(): void {
    for (const socket of [...this.#waiting, ...this.#asking]) socket.destroy();
  }

  #answerSoon(socket: Socket, head: Buffer): void {
    this.#heads.push(() => {
      if (socket.destroyed) return;
      this.#waiting.delete(socket);
      hold(this.#asking, socket, MAX_ASKING);
      const onUnread = (): void => {
        hold(this.#unread, socket, MAX_UNREAD);
      };
      this.#http.emit("connection", new OneRequest(socket, head, onUnread));
    });
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(this.#answerSome);
  }

  readonly #answerSome = (): void => {
    for (const answer of this.#heads.splice(0, MAX_A_TURN)) answer();
    this.#scheduled = this.#heads.length > 0;
    if (this.#scheduled) setImmediate(this.#answerSome);
  };
}

function hold(sockets: Set<Socket>, socket: Socket, most: number): void {
  sockets.add(socket);
  const [oldest] = sockets;
  if (sockets.size <= most || oldest === undefined) return;
  sockets.delete(oldest);
  oldest.destroy();
}
