// A KMS v2 client over a unix socket, for commands that call a running plugin. Copies answers into domain types, and
// turns gRPC errors into KmsErrors whose message begins with the name of the gRPC status.
import { fileURLToPath } from "node:url";
import * as grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { KmsError } from "../errors.js";
import { muteGrpc } from "../grpc-log.js";
import { oneLine } from "../untrusted-text.js";

const PROTO = fileURLToPath(new URL("../../proto/kms/v2/api.proto", import.meta.url));

export interface KmsStatus {
  readonly version: string;
  readonly healthz: string;
  readonly keyId: string;
}

export interface KmsCiphertext {
  readonly ciphertext: Buffer;
  readonly keyId: string;
  readonly annotations: Record<string, Buffer>;
}

type Unary = (
  request: object,
  metadata: grpc.Metadata,
  options: grpc.CallOptions,
  done: (error: grpc.ServiceError | null, answer: unknown) => void,
) => grpc.ClientUnaryCall;

export class KmsClient {
  readonly #client: grpc.Client & Record<string, Unary>;
  readonly #timeoutMs: number;
  readonly #endpoint: string;

  /**
   * @param endpoint a path, unix:///path, or unix:///@name for an abstract socket
   * @param authority the `:authority` header; the default is kube-apiserver's, since many servers refuse a path
   */
  constructor(endpoint: string, timeoutMs = 3_000, authority = "localhost") {
    muteGrpc();
    const definition = loadSync(PROTO, { keepCase: true, defaults: true });
    const { v2 } = grpc.loadPackageDefinition(definition) as unknown as {
      v2: { KeyManagementService: grpc.ServiceClientConstructor };
    };
    this.#client = new v2.KeyManagementService(grpcTarget(endpoint), grpc.credentials.createInsecure(), {
      "grpc.default_authority": authority,
      // Uses its own connection, as each provider entry of kube-apiserver does.
      "grpc.use_local_subchannel_pool": 1,
      "grpc.enable_channelz": 0,
    }) as unknown as grpc.Client & Record<string, Unary>;
    this.#timeoutMs = timeoutMs;
    this.#endpoint = endpoint;
  }

  /** Calls Status. @throws KmsError PEER_UNREACHABLE */
  async status(): Promise<KmsStatus> {
    const answer = (await this.#call("Status", {})) as { version: string; healthz: string; key_id: string };
    return { version: answer.version, healthz: answer.healthz, keyId: answer.key_id };
  }

  /** Calls Encrypt. @throws KmsError PEER_UNREACHABLE */
  async encrypt(plaintext: Uint8Array, uid: string, timeoutMs?: number): Promise<KmsCiphertext> {
    const answer = (await this.#call("Encrypt", { plaintext, uid }, timeoutMs)) as {
      ciphertext: Buffer;
      key_id: string;
      annotations: Record<string, Buffer>;
    };
    return { ciphertext: answer.ciphertext, keyId: answer.key_id, annotations: answer.annotations };
  }

  /** Calls Decrypt. @throws KmsError KEY_UNKNOWN; PEER_UNREACHABLE for any other error */
  async decrypt(sealed: KmsCiphertext, uid: string): Promise<Buffer> {
    const { ciphertext, keyId, annotations } = sealed;
    const answer = (await this.#call("Decrypt", { ciphertext, uid, key_id: keyId, annotations })) as {
      plaintext: Buffer;
    };
    return answer.plaintext;
  }

  close(): void {
    this.#client.close();
  }

  async #call(method: string, request: object, timeoutMs = this.#timeoutMs): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const call = this.#client[method];
      if (call === undefined) throw new TypeError(`no method ${method}`);
      const options = { deadline: Date.now() + timeoutMs };
      call.call(this.#client, request, new grpc.Metadata(), options, (error, answer) => {
        if (error === null) resolve(answer);
        else reject(toKmsError(error, this.#endpoint));
      });
    });
  }
}

/**
 * Returns the gRPC status of a call, which is DEADLINE_EXCEEDED after the time limit; undefined if nothing answered on the
 * socket.
 */
export function answeredStatus(error: unknown): { readonly name: string; readonly text: string } | undefined {
  const cause =
    error instanceof KmsError ? (error.cause as Partial<grpc.ServiceError> | undefined) : undefined;
  if (cause?.code === undefined || cause.details === undefined) return undefined;
  if (isUnanswered(cause)) return undefined;
  return { name: grpc.status[cause.code], text: cause.details };
}

function grpcTarget(endpoint: string): string {
  const path = endpoint.replace(/^unix:(?:\/\/)?/, "");
  const name = path.replace(/^\//, "");
  // grpc-js has no "unix-abstract" scheme; Node takes a leading NUL for an abstract name.
  return name.startsWith("@") ? `unix:\0${name.slice(1)}` : `unix:${path}`;
}

/**
 * Returns whether nothing answered. A plugin whose HSM is away also answers UNAVAILABLE, but its answer has headers.
 */
function isUnanswered({ code, metadata }: Partial<grpc.ServiceError>): boolean {
  return code === grpc.status.UNAVAILABLE && metadata?.get("content-type").length === 0;
}

function toKmsError(error: grpc.ServiceError, endpoint: string): KmsError {
  const name = grpc.status[error.code];
  if (isUnanswered(error)) {
    const why = /connect E[A-Z]+/.exec(error.details)?.[0] ?? error.details;
    const advice = "is the plugin running, is this its socket, and are you its user or root?";
    return new KmsError(
      "PEER_UNREACHABLE",
      `${name}: no plugin answers at ${endpoint} (${why}); ${advice}`,
      error,
    );
  }
  const code = error.code === grpc.status.NOT_FOUND ? "KEY_UNKNOWN" : "PEER_UNREACHABLE";
  return new KmsError(code, `${name}: ${oneLine(error.details)}`, error);
}
