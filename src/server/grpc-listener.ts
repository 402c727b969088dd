// Adds to grpc-js what it does not offer: HTTP/2 settings of our own, and control over when a request reaches it. Uses
// two private fields of the pinned grpc-js; test/server/limits.test.ts fails if another version lacks them.
import { Server as GrpcServer, ServerCredentials, type ServerOptions as GrpcOptions } from "@grpc/grpc-js";
import type {
  Http2Server,
  IncomingHttpHeaders,
  ServerHttp2Session,
  ServerHttp2Stream,
  ServerOptions,
} from "node:http2";
import { Duplex } from "node:stream";
import { muteGrpc } from "../grpc-log.js";

interface PrivateFields {
  readonly commonServerOptions: ServerOptions;
  readonly http2Servers: ReadonlyMap<Http2Server, unknown>;
}

/** Accepts a request and calls `begin` now or later. */
export type TakeRequest = (session: ServerHttp2Session, stream: ServerHttp2Stream, begin: () => void) => void;

/** A gRPC server and the HTTP/2 server that feeds it. */
export interface GrpcListener {
  readonly grpc: GrpcServer;
  readonly http2: Http2Server;
  /** Ends all connections; after `graceMs` by force. */
  drain(graceMs: number): void;
  destroy(): void;
}

/** The headers that this server uses. gRPC would keep all others too, split at every comma. */
const HEADERS = [
  ":method",
  ":path",
  ":authority",
  "content-type",
  "user-agent",
  "traceparent",
  "grpc-timeout",
  "grpc-encoding",
] as const;

/** The header in which a request's handler finds when it arrived, by performance.now(); a client cannot set it. */
export const ARRIVED_AT = "kms-arrived-at";

/** Returns a gRPC server that accepts connections from `http2` and passes every request through `take`. */
export function createGrpcListener(
  grpcOptions: GrpcOptions,
  http2Options: ServerOptions,
  take: TakeRequest,
): GrpcListener {
  muteGrpc();
  const grpc = new GrpcServer(grpcOptions);
  const fields = grpc as unknown as PrivateFields;
  Object.assign(fields.commonServerOptions, http2Options);
  const injector = grpc.createConnectionInjector(ServerCredentials.createInsecure());
  const [http2] = fields.http2Servers.keys();
  if (http2 === undefined) {
    throw new TypeError("this version of grpc-js does not keep its HTTP/2 servers in http2Servers");
  }
  const serve = http2.listeners("stream");
  http2.removeAllListeners("stream");
  http2.on("stream", (stream, headers) => {
    // grpc-js adds its own listener only when the request begins.
    stream.on("error", () => undefined);
    const { session } = stream;
    if (session === undefined) return;
    stream.write = writeAndWipe;
    const arrivedAt = String(performance.now());
    take(session as ServerHttp2Session, stream, () => {
      for (const listener of serve) {
        Reflect.apply(listener, http2, [stream, { ...known(headers), [ARRIVED_AT]: arrivedAt }]);
      }
    });
  });
  return {
    grpc,
    http2,
    drain: (graceMs) => {
      injector.drain(graceMs);
    },
    destroy: () => {
      injector.destroy();
    },
  };
}

type Written = (error?: Error | null) => void;

/**
 * Replaces `write` of a stream, and zeroes what grpc-js wrote once it has been sent: answers hold DEK seeds, and buffers
 * share memory for a long time. All streams have the same function, since binding one for each takes microseconds.
 */
function writeAndWipe(
  this: ServerHttp2Stream,
  chunk: unknown,
  encodingOrDone?: BufferEncoding | Written,
  written?: Written,
): boolean {
  const done = typeof encodingOrDone === "function" ? encodingOrDone : written;
  return Duplex.prototype.write.call(this, chunk, "utf8", (error) => {
    if (chunk instanceof Uint8Array) chunk.fill(0);
    done?.(error);
  });
}

/** Characters that a header of gRPC may not have (ASCII-Value of its HTTP/2 protocol). grpc-js drops such a header. */
const NOT_ASCII_VALUE = /[^ -~]/gu;

function known(headers: IncomingHttpHeaders): IncomingHttpHeaders {
  const kept: IncomingHttpHeaders = {};
  for (const name of HEADERS) {
    const value = headers[name];
    if (typeof value === "string") kept[name] = value.replace(NOT_ASCII_VALUE, "?");
  }
  return kept;
}
