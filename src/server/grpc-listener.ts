// Adds to grpc-js what it does not offer: our own HTTP/2 settings, and control over when a request reaches it. grpc-js is
// pinned, and keeps both in these private fields; test/server/limits.test.ts fails when a later version does not.
import { Server as GrpcServer, ServerCredentials, type ServerOptions as GrpcOptions } from "@grpc/grpc-js";
import type {
  Http2Server,
  IncomingHttpHeaders,
  ServerHttp2Session,
  ServerHttp2Stream,
  ServerOptions,
} from "node:http2";

interface PrivateFields {
  readonly commonServerOptions: ServerOptions;
  readonly http2Servers: ReadonlyMap<Http2Server, unknown>;
}

/** Takes a request and starts it, now or later. */
export type TakeRequest = (session: ServerHttp2Session, stream: ServerHttp2Stream, begin: () => void) => void;

export interface GrpcListener {
  readonly grpc: GrpcServer;
  readonly http2: Http2Server;
  /** Time that connections have to end. */
  drain(graceMs: number): void;
  destroy(): void;
}

/** The only headers that are read; gRPC would keep all others, split at every comma. */
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

export function createGrpcListener(
  grpcOptions: GrpcOptions,
  http2Options: ServerOptions,
  take: TakeRequest,
): GrpcListener {
  const grpc = new GrpcServer(grpcOptions);
  const fields = grpc as unknown as PrivateFields;
  Object.assign(fields.commonServerOptions, http2Options);
  const injector = grpc.createConnectionInjector(ServerCredentials.createInsecure());
  const [http2] = fields.http2Servers.keys();
  if (http2 === undefined) throw new TypeError("grpc-js keeps its servers elsewhere");
  const serve = http2.listeners("stream");
  http2.removeAllListeners("stream");
  http2.on("stream", (stream, headers) => {
    // grpc-js listens too, but not before the request has begun.
    stream.on("error", () => undefined);
    const { session } = stream;
    if (session === undefined) return;
    take(session as ServerHttp2Session, stream, () => {
      for (const one of serve) Reflect.apply(one, http2, [stream, known(headers)]);
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

function known(headers: IncomingHttpHeaders): IncomingHttpHeaders {
  const kept: IncomingHttpHeaders = {};
  for (const name of HEADERS) {
    const value = headers[name];
    if (typeof value === "string") kept[name] = value;
  }
  return kept;
}
