// Unary gRPC over HTTP/2, the server's side of it, as far as KMS v2 needs it (grpc/grpc, doc/PROTOCOL-HTTP2.md): a
// message in, a message or a status out, without compression. Node's HTTP/2 does the protocol; grpc-js, which does more,
// takes as long again for each request (README, Speed). A caller's deadline is kept by the caller, who then resets the
// request; the provider's own is shorter. Knows no KMS.
import {
  constants,
  createServer,
  type Http2Server,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from "node:http2";
import type { Socket } from "node:net";
import { GrpcCode, type GrpcStatus } from "./grpc-code.js";
import type { OpenRequests } from "./open-requests.js";

/** One request, from the end of its body on. */
export interface UnaryCall {
  readonly headers: IncomingHttpHeaders;
  /** The connection's name. */
  readonly peer: string;
  /** Called once when the stream has ended, be it answered or given up. */
  onClose(closed: () => void): void;
  /** Only the first answer counts, and none after the stream has ended. */
  answer(message: Uint8Array): void;
  fail(status: GrpcStatus): void;
}

/** @throws anything when the bytes are no message of the method's */
export type UnaryMethod = (message: Buffer, call: UnaryCall) => void;

export interface UnaryServerOptions {
  /** By path. */
  readonly methods: ReadonlyMap<string, UnaryMethod>;
  readonly requests: OpenRequests;
  readonly maxMessageBytes: number;
  readonly maxStreams: number;
  /** HTTP/2 state of one connection, in MB. */
  readonly maxSessionMemoryMb: number;
  readonly pingEveryMs: number;
  readonly pingTimeoutMs: number;
}

/** u8 compressed | u32 length */
const PREFIX_BYTES = 5;
const HEADERS = { ":status": 200, "content-type": "application/grpc+proto" };
const RESPOND = { waitForTrailers: true };
const TRAILERS = { "grpc-status": "0" };

export class UnaryServer {
  readonly #options: UnaryServerOptions;
  readonly #http2: Http2Server;
  readonly #sessions = new Set<ServerHttp2Session>();

  constructor(options: UnaryServerOptions) {
    this.#options = options;
    const { maxStreams, maxSessionMemoryMb } = options;
    this.#http2 = createServer({
      maxSessionMemory: maxSessionMemoryMb,
      settings: { maxConcurrentStreams: maxStreams },
    });
    // A session's error ends that session, whatever is listened for.
    this.#http2.on("sessionError", () => undefined);
  }

  /** Speaks HTTP/2 on a connection that somebody else has accepted. */
  accept(socket: Socket, peer: string): void {
    this.#http2.once("session", (session) => {
      this.#sessions.add(session);
      session.once("close", () => this.#sessions.delete(session));
      keepAlive(session, this.#options);
      session.on("stream", (stream, headers) => {
        this.#begin(stream, headers, peer);
      });
    });
    this.#http2.emit("connection", socket);
  }

  /** Takes no new requests, lets those under way end for up to `graceMs`, and closes every connection. */
  async stop(graceMs: number): Promise<void> {
    const sessions = [...this.#sessions];
    const force = setTimeout(() => {
      for (const session of sessions) session.destroy();
    }, graceMs);
    await Promise.all(
      sessions.map((session) => {
        const closed = new Promise((resolve) => session.once("close", resolve));
        session.close();
        return closed;
      }),
    );
    clearTimeout(force);
  }

  #begin(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, peer: string): void {
    // What goes wrong on a stream ends it; "close" follows.
    stream.on("error", () => undefined);
    if (headers["content-type"]?.startsWith("application/grpc") !== true) {
      stream.respond({ ":status": constants.HTTP_STATUS_UNSUPPORTED_MEDIA_TYPE }, { endStream: true });
      return;
    }
    const method = this.#options.methods.get(headers[":path"] ?? "");
    if (method === undefined) {
      fail(stream, { code: GrpcCode.UNIMPLEMENTED, details: "KMS v2 has no such method" });
      return;
    }
    this.#options.requests.add(stream);
    this.#receive(stream, (message) => {
      const call: UnaryCall = {
        headers,
        peer,
        onClose: (closed) => stream.once("close", closed),
        answer: (answered) => {
          answer(stream, answered);
        },
        fail: (status) => {
          fail(stream, status);
        },
      };
      try {
        method(message, call);
      } catch {
        call.fail({ code: GrpcCode.INTERNAL, details: "the request cannot be read" });
      }
    });
  }

  /** Puts the body together, up to its bound. */
  #receive(stream: ServerHttp2Stream, done: (message: Buffer) => void): void {
    const most = PREFIX_BYTES + this.#options.maxMessageBytes;
    const parts: Buffer[] = [];
    let bytes = 0;
    let refused = false;
    stream.on("data", (part: Buffer) => {
      if (refused) return;
      parts.push(part);
      bytes += part.length;
      refused = Math.max(bytes, announced(parts[0])) > most;
      if (!refused) return;
      parts.length = 0;
      fail(stream, { code: GrpcCode.RESOURCE_EXHAUSTED, details: "the request is too long" });
    });
    stream.on("end", () => {
      if (refused) return;
      const [first] = parts;
      const body = first !== undefined && parts.length === 1 ? first : Buffer.concat(parts);
      const problem = problemOf(body);
      if (problem === undefined) done(body.subarray(PREFIX_BYTES));
      else fail(stream, problem);
    });
  }
}

/** Length of the whole body by its prefix, as far as that is there. */
function announced(first: Buffer | undefined): number {
  return first === undefined || first.length < PREFIX_BYTES ? 0 : PREFIX_BYTES + first.readUInt32BE(1);
}

function problemOf(body: Buffer): GrpcStatus | undefined {
  if (body.length < PREFIX_BYTES || announced(body) !== body.length)
    return { code: GrpcCode.INTERNAL, details: "the request is not one whole message" };
  if (body[0] === 0) return undefined;
  return { code: GrpcCode.UNIMPLEMENTED, details: "compressed messages are not taken" };
}

function answer(stream: ServerHttp2Stream, message: Uint8Array): void {
  if (stream.destroyed || stream.closed || stream.headersSent) return;
  const body = Buffer.allocUnsafe(PREFIX_BYTES + message.length);
  body[0] = 0;
  body.writeUInt32BE(message.length, 1);
  body.set(message, PREFIX_BYTES);
  stream.respond(HEADERS, RESPOND);
  stream.once("wantTrailers", () => {
    stream.sendTrailers(TRAILERS);
  });
  stream.end(body);
}

function fail(stream: ServerHttp2Stream, { code, details }: GrpcStatus): void {
  if (stream.destroyed || stream.closed || stream.headersSent) return;
  const status = { "grpc-status": String(code), "grpc-message": percentEncoded(details) };
  stream.respond({ ...HEADERS, ...status }, { endStream: true });
}

/** As the protocol wants "grpc-message": all but printable ASCII, and "%". */
function percentEncoded(text: string): string {
  return text.replace(/[^ -$&-~]+/g, (run) =>
    [...Buffer.from(run)].map((byte) => `%${byte.toString(16).padStart(2, "0").toUpperCase()}`).join(""),
  );
}

/** A peer whose HTTP/2 has broken down is kept by Node even when it has gone, until it owes an answer to a ping. */
function keepAlive(
  session: ServerHttp2Session,
  { pingEveryMs, pingTimeoutMs }: Pick<UnaryServerOptions, "pingEveryMs" | "pingTimeoutMs">,
): void {
  let timer: NodeJS.Timeout | undefined;
  const wait = (): void => {
    timer = setTimeout(ping, pingEveryMs).unref();
  };
  const ping = (): void => {
    if (session.destroyed) return;
    timer = setTimeout(() => {
      session.destroy();
    }, pingTimeoutMs);
    const sent = session.ping((error) => {
      clearTimeout(timer);
      if (error === null) wait();
      else session.destroy();
    });
    if (!sent) session.destroy();
  };
  session.on("error", () => undefined);
  session.once("close", () => {
    clearTimeout(timer);
  });
  wait();
}
