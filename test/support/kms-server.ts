// The gRPC server on its own socket, with clients and a provider that the test controls.

import { rmSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { join } from "node:path";

import { Client, credentials, Metadata, type ServiceError } from "@grpc/grpc-js";

import { afterEach, beforeEach, vi } from "vitest";

import type { KmsProvider } from "../../src/provider/kms.js";
import { kmsServiceDefinition } from "../../src/server/kms-messages.js";
import type { FinishedRequest } from "../../src/server/kms-service.js";
import type { Limit } from "../../src/server/open-requests.js";
import { startServer, type RunningServer } from "../../src/server/server.js";
import { makeFolder } from "./token.js";

export type Fields = Readonly<Record<string, unknown>>;

export interface Call {
  readonly answer: Promise<Fields>;
  cancel(): void;
}

const SERVICE = kmsServiceDefinition();

/** Answers every request with its own input. */
export const ECHO: KmsProvider = {
  status: () => ({ healthz: "ok", keyId: "k" }),
  encrypt: (plaintext) =>
    Promise.resolve({ ciphertext: Buffer.from(plaintext), keyId: "k", annotations: { "a.b": Buffer.of(1) } }),
  decrypt: ({ ciphertext }) => Promise.resolve(Buffer.from(ciphertext)),
};

/** A server that can be started again after its removal, as another one. */
export class KmsServer {
  #folder = "";
  readonly finished: FinishedRequest[] = [];
  readonly limits: Limit[] = [];
  /** May be replaced at any time. */
  provider: KmsProvider = ECHO;
  readonly #open: { close(): void }[] = [];
  #server: RunningServer | undefined;

  get folder(): string {
    return this.#folder;
  }

  get path(): string {
    return join(this.#folder, "kms.sock");
  }

  async start(): Promise<void> {
    this.#folder = makeFolder("server");
    this.provider = ECHO;
    this.finished.length = this.limits.length = 0;
    this.#server = await this.startAnother(this.path);
  }

  /** Starts another server with the same provider. The caller stops it. */
  async startAnother(path: string): Promise<RunningServer> {
    const provider: KmsProvider = {
      status: () => this.provider.status(),
      encrypt: (plaintext, context) => this.provider.encrypt(plaintext, context),
      decrypt: (question, context) => this.provider.decrypt(question, context),
    };
    const observe = (request: FinishedRequest): void => {
      this.finished.push(request);
    };
    return startServer({ path, abstract: false, mode: 0o600 }, provider, observe, (limit) => {
      this.limits.push(limit);
    });
  }

  async stop(graceMs: number): Promise<void> {
    await this.#server?.stop(graceMs);
  }

  async remove(): Promise<void> {
    for (const one of this.#open.splice(0)) one.close();
    await this.stop(0);
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** Closes something together with the server. */
  own(closable: { close(): void }): void {
    this.#open.push(closable);
  }

  client(): Client {
    const client = new Client(`unix:${this.path}`, credentials.createInsecure(), {
      "grpc.default_authority": "localhost",
      // Otherwise clients in one process share their connection.
      "grpc.use_local_subchannel_pool": 1,
    });
    this.own(client);
    return client;
  }

  /** Returns a connection on which nothing has been sent yet. */
  rawConnection(): Socket {
    const socket = connect(this.path);
    socket.on("error", () => undefined);
    this.own({ close: () => socket.destroy() });
    return socket;
  }
}

/** Starts a server before each test; after it, removes the server and ends fake timers. */
export function useKmsServer(): KmsServer {
  const server = new KmsServer();
  beforeEach(() => server.start());
  afterEach(async () => {
    vi.useRealTimers();
    await server.remove();
  });
  return server;
}

/** Begins a request. `raw` is sent unchanged in place of a message. */
export function start(client: Client, method: string, fields: Fields, raw?: Buffer): Call {
  const rpc = SERVICE[method];
  if (rpc === undefined) throw new TypeError(method);
  const serialize = raw === undefined ? rpc.requestSerialize : () => raw;
  let cancel = (): void => undefined;
  const answer = new Promise<Fields>((resolve, reject) => {
    const done = (error: ServiceError | null, value?: unknown): void => {
      if (error === null) resolve(value as Fields);
      else reject(error);
    };
    const call = client.makeUnaryRequest(
      rpc.path,
      serialize,
      rpc.responseDeserialize,
      fields,
      new Metadata(),
      done,
    );
    cancel = () => {
      call.cancel();
    };
  });
  return { answer, cancel };
}

export const ask = (client: Client, method: string, fields: Fields = {}): Promise<Fields> =>
  start(client, method, fields).answer;
