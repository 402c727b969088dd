// A KMS v2 client over a unix socket, for the commands that ask a running plugin. Answers are copied into
// domain shapes; gRPC errors become KmsErrors that keep the status' name.
import { fileURLToPath } from "node:url";
import * as grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { KmsError } from "../errors.js";
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
   * @param authority as kube-apiserver sends it; many servers do not take a path
   */
  constructor(endpoint: string, timeoutMs = 3_000, authority = "localhost") {
    const definition = loadSync(PROTO, { keepCase: true, defaults: true });
    const { v2 } = grpc.loadPackageDefinition(definition) as unknown as {
      v2: { KeyManagementService: grpc.ServiceClientConstructor };
    };
    this.#client = new v2.KeyManagementService(grpcTarget(endpoint), grpc.credentials.createInsecure(), {
      "grpc.default_authority": authority,
      // A connection of its own, as each of kube-apiserver's provider entries has.
      "grpc.use_local_subchannel_pool": 1,
      "grpc.enable_channelz": 0,
    }) as unknown as grpc.Client & Record<string, Unary>;
    this.#timeoutMs = timeoutMs;
    this.#endpoint = endpoint;
  }

  async status(): Promise<KmsStatus> {
    const answer = (await this.#call("Status", {})) as { version: string; healthz: string; key_id: string };
    return { version: answer.version, healthz: answer.healthz, keyId: answer.key_id };
  }

  async encrypt(plaintext: Uint8Array, uid: string, timeoutMs?: number): Promise<KmsCiphertext> {
    const answer = (await this.#call("Encrypt", { plaintext, uid }, timeoutMs)) as {
      ciphertext: Buffer;
      key_id: string;
      annotations: Record<string, Buffer>;
    };
    return { ciphertext: answer.ciphertext, keyId: answer.key_id, annotations: answer.annotations };
  }

  async decrypt(question: KmsCiphertext, uid: string): Promise<Buffer> {
    const { ciphertext, keyId, annotations } = question;
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

/** What the plugin answered; undefined when the error is not an answer of it: nobody listens, or not in time. */
export function answeredStatus(error: unknown): { readonly name: string; readonly text: string } | undefined {
  const cause =
    error instanceof KmsError ? (error.cause as Partial<grpc.ServiceError> | undefined) : undefined;
  if (cause?.code === undefined || cause.details === undefined) return undefined;
  if (isNobody(cause)) return undefined;
  return { name: grpc.status[cause.code], text: cause.details };
}

function grpcTarget(endpoint: string): string {
  const path = endpoint.replace(/^unix:(?:\/\/)?/, "");
  const name = path.replace(/^\//, "");
  // grpc-js has no "unix-abstract" scheme; Node takes a leading NUL for an abstract name.
  return name.startsWith("@") ? `unix:\0${name.slice(1)}` : `unix:${path}`;
}

/** Only an answer has headers; a plugin whose HSM is away answers UNAVAILABLE too. */
function isNobody({ code, metadata }: Partial<grpc.ServiceError>): boolean {
  return code === grpc.status.UNAVAILABLE && metadata?.get("content-type").length === 0;
}

function toKmsError(error: grpc.ServiceError, endpoint: string): KmsError {
  const name = grpc.status[error.code];
  if (isNobody(error)) {
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
