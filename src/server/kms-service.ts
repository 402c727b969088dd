// The three RPCs of KMS v2: fields are copied between the wire and the domain, and nothing else is done here.
import { fileURLToPath } from "node:url";
import type { ServiceDefinition } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { KmsError } from "../errors.js";
import type { Annotations, KmsProvider, RequestContext } from "../provider/kms.js";
import { grpcStatusOf } from "./grpc-status.js";
import type { UnaryCall, UnaryMethod } from "./unary-server.js";

const PROTO = fileURLToPath(new URL("../../proto/kms/v2/api.proto", import.meta.url));
/** kube-apiserver fixes the version it first sees for its whole life. */
const KMS_VERSION = "v2";

export type Operation = "Status" | "Encrypt" | "Decrypt";

/** One finished request, without its data. */
export interface FinishedRequest {
  readonly operation: Operation;
  readonly uid: string;
  /** The key_id answered with or asked for; undefined where there was none. */
  readonly keyId: string | undefined;
  readonly healthz?: string;
  readonly error: KmsError | undefined;
  readonly seconds: number;
  /** The connection, as server.ts numbers it. */
  readonly peer: string;
  /** What the client calls itself. */
  readonly userAgent: string | undefined;
  /** The caller's trace (W3C Trace Context). */
  readonly traceparent: string | undefined;
}

export type RequestObserver = (request: FinishedRequest) => void;

interface WireEncrypt {
  readonly plaintext: Buffer;
  readonly uid: string;
}

interface WireDecrypt {
  readonly ciphertext: Buffer;
  readonly uid: string;
  readonly key_id: string;
  readonly annotations: Annotations;
}

/** The service's definition, read once from the proto file that ships with the package. */
export function kmsServiceDefinition(): ServiceDefinition {
  const root = loadSync(PROTO, { keepCase: true, defaults: true });
  return root["v2.KeyManagementService"] as ServiceDefinition;
}

/** The methods by their paths. */
export function kmsService(provider: KmsProvider, observe: RequestObserver): Map<string, UnaryMethod> {
  const methods = new Map<string, UnaryMethod>();
  const add = (name: Operation, run: (request: unknown, answer: Answer) => void): void => {
    const rpc = kmsServiceDefinition()[name];
    if (rpc === undefined) throw new TypeError(`the service has no ${name}`);
    methods.set(rpc.path, (message, call) => {
      run(rpc.requestDeserialize(message), new Answer(name, call, rpc.responseSerialize, observe));
    });
  };
  add("Status", (_request, answer) => {
    try {
      const { healthz, keyId } = provider.status();
      answer.send({ version: KMS_VERSION, healthz, key_id: keyId }, { keyId, healthz });
    } catch (thrown) {
      answer.fail(thrown, undefined);
    }
  });
  add("Encrypt", (request, answer) => {
    const { plaintext, uid } = request as WireEncrypt;
    provider
      .encrypt(plaintext, answer.context(uid))
      .finally(() => plaintext.fill(0))
      .then(
        ({ ciphertext, keyId, annotations }) => {
          answer.send({ ciphertext, key_id: keyId, annotations }, { keyId });
        },
        (thrown: unknown) => {
          answer.fail(thrown, undefined);
        },
      );
  });
  add("Decrypt", (request, answer) => {
    const { ciphertext, uid, key_id: keyId, annotations } = request as WireDecrypt;
    provider.decrypt({ ciphertext, keyId, annotations }, answer.context(uid)).then(
      (plaintext) => {
        answer.send({ plaintext }, { keyId });
        plaintext.fill(0);
      },
      (thrown: unknown) => {
        answer.fail(thrown, keyId);
      },
    );
  });
  return methods;
}

/** The one answer to a request, and what is told of it. */
class Answer {
  readonly #operation: Operation;
  readonly #call: UnaryCall;
  readonly #serialize: (message: object) => Buffer;
  readonly #observe: RequestObserver;
  readonly #startedAt = performance.now();
  #uid = "";

  constructor(
    operation: Operation,
    call: UnaryCall,
    serialize: (message: object) => Buffer,
    observe: RequestObserver,
  ) {
    this.#operation = operation;
    this.#call = call;
    this.#serialize = serialize;
    this.#observe = observe;
  }

  context(uid: string): RequestContext {
    this.#uid = uid;
    const context: RequestContext = { uid, startedAt: this.#startedAt, cancelled: false };
    this.#call.onClose(() => {
      context.cancelled = true;
    });
    return context;
  }

  /** Serialised when it returns, so that the caller may wipe what the message holds. */
  send(message: object, told: { readonly keyId: string; readonly healthz?: string }): void {
    const bytes = this.#serialize(message);
    this.#call.answer(bytes);
    bytes.fill(0);
    this.#done({ ...told, error: undefined });
  }

  fail(thrown: unknown, keyId: string | undefined): void {
    const error = KmsError.from(thrown);
    this.#call.fail({ code: grpcStatusOf(error.code), details: error.message });
    this.#done({ keyId, error });
  }

  #done(told: Pick<FinishedRequest, "keyId" | "healthz" | "error">): void {
    const { headers, peer } = this.#call;
    const text = (value: string | string[] | undefined): string | undefined =>
      Array.isArray(value) ? value[0] : value;
    this.#observe({
      operation: this.#operation,
      uid: this.#uid,
      seconds: (performance.now() - this.#startedAt) / 1000,
      peer,
      userAgent: headers["user-agent"],
      traceparent: text(headers["traceparent"]),
      ...told,
    });
  }
}
