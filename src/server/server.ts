// The gRPC server on the unix socket. The listening socket is ours and its connections are handed to grpc-js
// one by one, which gives us the file's permissions and a say in which connections and requests are served.
import { createServer, type Server } from "node:net";
import { Client, credentials, type Server as GrpcServer, type ServiceError } from "@grpc/grpc-js";
import type { KmsProvider } from "../provider/kms.js";
import { Connections } from "./connections.js";
import { createGrpcListener } from "./grpc-listener.js";
import { keepSocket } from "./kept-socket.js";
import { kmsService, kmsServiceDefinition, type RequestObserver } from "./kms-service.js";
import { OpenRequests, type LimitObserver } from "./open-requests.js";
import type { SocketSettings } from "./socket.js";

/** A plaintext, a ciphertext and a key_id have 1 KiB each, annotations 32 KiB (k8s.io/apiserver). */
const MAX_MESSAGE_BYTES = 40 * 1024;
/** The limit that gRPC clients assume before they know ours; a client with more requests waits for its turn. */
export const MAX_STREAMS = 100;
/** The names and values of one request, with 32 bytes for each (RFC 9113 section 6.5.2): kube-apiserver's have 500. */
const MAX_HEADER_LIST_BYTES = 8 * 1024;
const MAX_HEADERS = 64;
/** HTTP/2 state of one connection, in MB. */
const MAX_SESSION_MEMORY_MB = 10;
/** A peer whose HTTP/2 has broken down is kept by Node even when it has gone, until it owes an answer to a ping. */
const PING_EVERY_MS = 5_000;
const PING_TIMEOUT_MS = 5_000;
const PEER_TIMEOUT_MS = 1_000;

const GRPC_OPTIONS = {
  "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
  "grpc.keepalive_time_ms": PING_EVERY_MS,
  "grpc.keepalive_timeout_ms": PING_TIMEOUT_MS,
  "grpc.enable_channelz": 0,
};

export interface RunningServer {
  /** Why nobody can connect to the socket, in one line; undefined while all is well. */
  socketProblem(): string | undefined;
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
  const requests = new OpenRequests(onLimit);
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
  const socket = await keepSocket(settings, listen, askPeer);
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
        else if (error.metadata.get("content-type").length === 0) {
          resolve("a process that does not speak KMS v2 listens there");
        } else resolve(`a process answers there with ${error.message}`);
      };
      const deadline = { deadline: Date.now() + PEER_TIMEOUT_MS };
      client.makeUnaryRequest(rpc.path, rpc.requestSerialize, rpc.responseDeserialize, {}, deadline, answer);
    });
  } finally {
    client.close();
  }
}
