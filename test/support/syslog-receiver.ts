// A receiver of syslog messages over streams, in this process.

import { createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { createServer as createTlsServer, type TlsOptions } from "node:tls";

/** Reads frames with octet counting (RFC 6587 section 3.4.1); a stalled one accepts connections and reads nothing. */
export class StreamReceiver {
  readonly messages: string[] = [];
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  connections = 0;

  private constructor(server: Server) {
    this.#server = server;
  }

  static async listen(at: string | number, tls?: TlsOptions, isStalled = false): Promise<StreamReceiver> {
    const server = tls === undefined ? createServer() : createTlsServer(tls);
    const receiver = new StreamReceiver(server);
    server.on(tls === undefined ? "connection" : "secureConnection", (socket: Socket) => {
      receiver.#accept(socket, isStalled);
    });
    server.on("tlsClientError", () => undefined);
    await new Promise<void>((resolve) => {
      if (typeof at === "string") server.listen(at, resolve);
      else server.listen(at, "127.0.0.1", resolve);
    });
    return receiver;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  #accept(socket: Socket, isStalled: boolean): void {
    this.connections += 1;
    this.#sockets.add(socket);
    socket.on("error", () => undefined).on("close", () => this.#sockets.delete(socket));
    if (isStalled) return;
    let unread = Buffer.alloc(0);
    socket.on("data", (bytes: Buffer) => {
      unread = Buffer.concat([unread, bytes]);
      for (;;) {
        const space = unread.indexOf(" ");
        const end = space + 1 + Number(unread.toString("latin1", 0, Math.max(space, 0)));
        if (space < 0 || unread.length < end) return;
        this.messages.push(unread.toString("latin1", space + 1, end));
        unread = unread.subarray(end);
      }
    });
  }

  /** Closes the server and breaks its connections. */
  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
