// Serves gRPC on the unix socket. This code owns the listening socket and passes its connections to grpc-js one by one,
// so that it controls the file's permissions and decides which connections and requests are served.
import { createServer, type Server } from "node:net";
import { Client, credentials, status, type Server as GrpcServer, type ServiceError } from "@grpc/grpc-js";
import type { KmsProvider } from "../provider/kms.js";
import { Connections } from "./connections.js";
import { createGrpcListener } from "./grpc-listener.js";
import { keepSocket, type SocketObserver } from "./kept-socket.js";
import { kmsServiceDefinition } from "./kms-messages.js";
import { kmsService, type RequestObserver } from "./kms-service.js";
import { OpenRequests, type LimitObserver } from "./open-requests.js";
import { tryToBind } from "./socket-trial.js";
import type { SocketSettings } from "./socket.js";

/** Plaintext, ciphertext and key_id have at most 1 KiB each, annotations 32 KiB (k8s.io/apiserver). */
const MAX_MESSAGE_BYTES = 40 * 1024;
/** Requests per connection. gRPC clients assume the same limit before they receive ours, and queue further requests. */
export const MAX_STREAMS = 100;
/**
 * Header names and values of a request plus 32 bytes for each (RFC 9113 section 6.5.2); kube-apiserver sends 500 bytes.
 */
const MAX_HEADER_LIST_BYTES = 8 * 1024;
const MAX_HEADERS = 64;
/** Maximum HTTP/2 state of a connection, in MB. */
const MAX_SESSION_MEMORY_MB = 10;
/** Time between two pings, in ms: Node keeps a connection whose HTTP/2 has failed until a ping is not answered. */
const PING_EVERY_MS = 5_000;
const PING_TIMEOUT_MS = 5_000;
/** A plugin on a busy node may answer late. A start on a socket in use takes at most this long to fail. */
const PEER_TIMEOUT_S = 5;

const GRPC_OPTIONS = {
  "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
  "grpc.keepalive_time_ms": PING_EVERY_MS,
  "grpc.keepalive_timeout_ms": PING_TIMEOUT_MS,
  "grpc.enable_channelz": 0,
};

/** A gRPC server that serves on its socket. */
export interface RunningServer {
  /** Returns why nobody can connect to the socket, in one line; undefined if clients can connect. */
  socketProblem(): string | undefined;
  /** Removes the socket, refuses new connections, and waits up to `graceMs` for open requests. */
  stop(graceMs: number): Promise<void>;
}

/** Options of a server. */
export interface ServerOptions {
  /** Called when clients cannot connect, and when they can again. */
  readonly onSocket?: SocketObserver;
  /** Maximum number of requests that are served at once; that of one cluster if omitted. */
  readonly served?: number | undefined;
}

/** Starts to serve the provider on the socket. @throws KmsError SOCKET_UNUSABLE */
export async function startServer(
  settings: SocketSettings,
  provider: KmsProvider,
  observe: RequestObserver,
  onLimit: LimitObserver,
  { onSocket, served }: ServerOptions = {},
): Promise<RunningServer> {
  const requests = new OpenRequests(onLimit, served);
  const connections = new Connections(requests, onLimit);
  const http2Options = {
    settings: { maxConcurrentStreams: MAX_STREAMS, maxHeaderListSize: MAX_HEADER_LIST_BYTES },
    maxHeaderListPairs: MAX_HEADERS,
    maxSessionMemory: MAX_SESSION_MEMORY_MB,
  };
  const serving = createGrpcListener(GRPC_OPTIONS, http2Options, (session, stream, begin) => {
    connections.used(session);
    requests.take(session, stream, begin);
  });
  serving.grpc.addService(kmsServiceDefinition(), kmsService(provider, observe));
  const listen = (): Server =>
    createServer((socket) => {
      connections.add(socket, serving.http2);
    });
  const socket = await keepSocket(settings, listen, {
    ask: askPeer,
    consequence: "kube-apiserver cannot reach this plugin",
    observe: onSocket,
  });
  return {
    socketProblem: () => socket.problem(),
    stop: async (graceMs) => {
      socket.stop();
      connections.closeNew();
      serving.drain(graceMs);
      await shutDown(serving.grpc, graceMs);
      requests.stop();
      serving.destroy();
    },
  };
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

const NO_KMS = "a process that does not speak KMS v2 listens there";
const NO_ANSWER = `the process that listens there has not answered within ${PEER_TIMEOUT_S} s`;

/** The process that listens on a socket. */
export interface Peer {
  readonly description: string;
  readonly isPlugin: boolean;
}

/**
 * Finds out whether the socket can be bound, as `tryToBind` does. Returns the process that listens there already.
 * @throws KmsError SOCKET_UNUSABLE
 */
export async function tryServerSocket(
  settings: SocketSettings,
  use?: (path: string) => void | Promise<void>,
): Promise<Peer | undefined> {
  if (!(await tryToBind(settings, use))) return undefined;
  const description = await askPeer(settings.path);
  return { description, isPlugin: description !== NO_KMS && description !== NO_ANSWER };
}

/** Describes the process that listens on a live socket by its answer to a KMS v2 Status. */
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
        // Only a gRPC response has headers. Its code decides nothing: a plugin whose HSM is away answers UNAVAILABLE
        // too.
        else if (error.metadata.get("content-type").length === 0) {
          resolve(error.code === status.DEADLINE_EXCEEDED ? NO_ANSWER : NO_KMS);
        } else resolve(`a process answers there with ${error.message}`);
      };
      const deadline = { deadline: Date.now() + PEER_TIMEOUT_S * 1000 };
      client.makeUnaryRequest(rpc.path, rpc.requestSerialize, rpc.responseDeserialize, {}, deadline, answer);
    });
  } finally {
    client.close();
  }
}
