// A client that writes HTTP/2 itself, so that it can do what a gRPC client never does.

import * as http2 from "node:http2";
import type { ClientHttp2Session, ClientHttp2Stream } from "node:http2";

import type { KmsServer } from "./kms-server.js";

/** The headers of an Encrypt. */
export const HEADERS = {
  ":method": "POST",
  ":path": "/v2.KeyManagementService/Encrypt",
  "content-type": "application/grpc",
  te: "trailers",
};

/** Returns an Encrypt message of this length after its gRPC prefix, filled with a plaintext of zeros. */
export function message(bytes: number): Buffer {
  const framed = Buffer.alloc(bytes + 5);
  framed.writeUInt32BE(bytes, 1);
  const filled = bytes - 4;
  framed.set([0x0a, 0x80 | (filled & 0x7f), 0x80 | ((filled >> 7) & 0x7f), filled >> 14], 5);
  return framed;
}

export class Peer {
  readonly closed: { readonly stream: ClientHttp2Stream; readonly code: number }[] = [];
  readonly session: ClientHttp2Session;
  readonly #settled: Promise<unknown>;

  constructor(server: KmsServer, options: http2.ClientSessionOptions = {}) {
    this.session = http2.connect("http://localhost", {
      ...options,
      createConnection: () => server.rawConnection(),
    });
    this.session.on("error", () => undefined);
    this.#settled = new Promise((resolve) => this.session.once("remoteSettings", resolve));
  }

  /** Opens a request and leaves it open. */
  open(path = HEADERS[":path"]): ClientHttp2Stream {
    const stream = this.session.request({ ...HEADERS, ":path": path }, { endStream: false });
    stream.on("error", () => undefined);
    stream.on("close", () => this.closed.push({ stream, code: stream.rstCode }));
    return stream;
  }

  /** Waits until the server has received the headers of every request opened so far. */
  async hasSent(): Promise<void> {
    // A ping overtakes what has not been written yet.
    await new Promise((resolve) => setImmediate(resolve));
    await new Promise((resolve) => this.session.ping(resolve));
  }

  async ready(): Promise<this> {
    await this.#settled;
    return this;
  }
}
