// The gRPC server on the unix socket. The listening socket is ours and its connections are handed to grpc-js
// one by one, which gives us the file's permissions, a bound on connections and an end to silent ones.
import { createServer, type Socket } from "node:net";
import {
  Server as GrpcServer,
  ServerCredentials,
  Client,
  credentials,
  type ServerInterceptor,
  type ServiceError,
} from "@grpc/grpc-js";
import type { KmsProvider } from "../provider/kms.js";
import { kmsService, kmsServiceDefinition, type RequestObserver } from "./kms-service.js";
import { OpenRequests, type LimitObserver } from "./open-requests.js";
import { bindSocket, type SocketSettings } from "./socket.js";

/** A plaintext, a ciphertext and a key_id have 1 KiB each, annotations 32 KiB (k8s.io/apiserver). */
const MAX_MESSAGE_BYTES = 40 * 1024;
/** Each provider entry of each API server has a connection, and a reload overlaps two. */
const MAX_CONNECTIONS = 32;
/** A client waits for its turn beyond this. What all connections together may have is bounded, too. */
const MAX_STREAMS = 1_000;
/** HTTP/2 state of one connection, in MB. */
const MAX_SESSION_MEMORY_MB = 10;
/** What every client of HTTP/2 sends first, whole (RFC 9113 section 3.4). */
const PREFACE_BYTES = 24;
/** A connection that has sent less than that for this long is closed. */
const SILENT_MS = 10_000;
/** A peer whose HTTP/2 has broken down is kept by Node even when it has gone, until it owes an answer to a ping. */
const PING_EVERY_MS = 5_000;
const PING_TIMEOUT_MS = 5_000;
const PEER_TIMEOUT_MS = 1_000;

export interface RunningServer {
  /** Takes no new connections, lets requests end for up to `graceMs`, then removes the socket. */
  stop(graceMs: number): Promise<void>;
}

/** @throws KmsError SOCKET_UNUSABLE */
export async function startServer(
  settings: SocketSettings,
  provider: KmsProvider,
  observe: RequestObserver,
  onLimit: LimitObserver,
): Promise<RunningServer> {
  const definition = kmsServiceDefinition();
  const requests = new OpenRequests(onLimit);
  const grpc = new GrpcServer({
    "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
    "grpc.max_concurrent_streams": MAX_STREAMS,
    "grpc-node.max_session_memory": MAX_SESSION_MEMORY_MB,
    "grpc.keepalive_time_ms": PING_EVERY_MS,
    "grpc.keepalive_timeout_ms": PING_TIMEOUT_MS,
    "grpc.enable_channelz": 0,
    interceptors: [requests.interceptor as ServerInterceptor],
  });
  grpc.addService(definition, kmsService(provider, observe));
  const injector = grpc.createConnectionInjector(ServerCredentials.createInsecure());
  let connections = 0;
  const listener = createServer((socket) => {
    connections += 1;
    nameConnection(socket, connections);
    closeIfSilent(socket);
    injector.injectConnection(socket);
  });
  listener.maxConnections = MAX_CONNECTIONS;
  listener.on("drop", () => {
    onLimit("too many connections");
  });
  const bound = await bindSocket(listener, settings, askPeer);
  return {
    stop: async (graceMs) => {
      bound.remove();
      listener.close();
      injector.drain(graceMs);
      await shutDown(grpc, graceMs);
      requests.stop();
      injector.destroy();
    },
  };
}

/** A unix socket's peer has no address: grpc-js then tells this name as the peer of a call. */
function nameConnection(socket: Socket, number: number): void {
  Object.defineProperty(socket, "remoteAddress", { value: `connection ${String(number)}` });
}

function closeIfSilent(socket: Socket): void {
  socket.on("error", () => undefined);
  const timer = setTimeout(() => {
    if (socket.bytesRead < PREFACE_BYTES) socket.destroy();
  }, SILENT_MS).unref();
  socket.once("close", () => {
    clearTimeout(timer);
  });
}

async function shutDown(grpc: GrpcServer, graceMs: number): Promise<void> {
  const force = setTimeout(() => {
    grpc.forceShutdown();
  }, graceMs);
  await new Promise<void>((resolve) => {
    grpc.tryShutdown(() => {
      resolve();
    });
  });
  clearTimeout(force);
}

/** What the process behind a live socket answers to a KMS v2 Status. */
async function askPeer(path: string): Promise<string> {
  const rpc = kmsServiceDefinition()["Status"];
  if (rpc === undefined) throw new TypeError("the service has no Status");
  const client = new Client(`unix:${path}`, credentials.createInsecure(), {
    "grpc.default_authority": "localhost",
  });
  try {
    return await new Promise((resolve) => {
      const answer = (error: ServiceError | null, value?: unknown): void => {
        const keyId = (value as { key_id?: string } | undefined)?.key_id;
        if (error === null) resolve(`a KMS plugin answers there with key_id ${keyId ?? "none"}`);
        // Only an answer has headers; a plugin whose HSM is away answers UNAVAILABLE too.
        else if (error.metadata.get("content-type").length === 0)
          resolve("a process that does not speak KMS v2 listens there");
        else resolve(`a process answers there with ${error.message}`);
      };
      const deadline = { deadline: Date.now() + PEER_TIMEOUT_MS };
      client.makeUnaryRequest(rpc.path, rpc.requestSerialize, rpc.responseDeserialize, {}, deadline, answer);
    });
  } finally {
    client.close();
  }
}
