// Implements the three RPCs of KMS v2 (k8s.io/kms). Copies fields between gRPC messages and the
// provider; every decision is the provider's.
import type { sendUnaryData, ServerUnaryCall, UntypedServiceImplementation } from "@grpc/grpc-js";
import { KmsError } from "../errors.js";
import type { HsmCall } from "../hsm/port.js";
import type { Annotations, KmsProvider, RequestContext } from "../provider/kms.js";
import { ARRIVED_AT } from "./grpc-listener.js";
import { grpcStatusOf } from "./grpc-status.js";

/** kube-apiserver accepts no other version until it restarts. */
const KMS_VERSION = "v2";

/** An RPC of the service. */
export type Operation = "Status" | "Encrypt" | "Decrypt";

/** The facts of a finished request, without its data. */
export interface FinishedRequest {
  readonly operation: Operation;
  readonly uid: string;
  /** The key_id of the answer or of the request; undefined if there is none. */
  readonly keyId: string | undefined;
  readonly healthz?: string;
  readonly error: KmsError | undefined;
  readonly seconds: number;
  /** HSM calls made for the request, in the order in which they ended. */
  readonly hsmCalls: readonly HsmCall[];
  /** The connection's name: "connection" and a number of this process. */
  readonly peer: string;
  /** The client's user-agent header. */
  readonly userAgent: string | undefined;
  /** The caller's trace (W3C Trace Context). */
  readonly traceparent: string | undefined;
}

/** Receives every finished request. */
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

/** Returns the RPC handlers; `observe` receives every finished request. */
export function kmsService(provider: KmsProvider, observe: RequestObserver): UntypedServiceImplementation {
  return {
    Status: (call: ServerUnaryCall<unknown, unknown>, answer: sendUnaryData<unknown>) => {
      answerStatus(provider, call, answer, observe);
    },
    Encrypt: (call: ServerUnaryCall<WireEncrypt, unknown>, answer: sendUnaryData<unknown>) => {
      const { plaintext, uid } = call.request;
      serve("Encrypt", call, uid, undefined, answer, observe, async (context) => {
        try {
          const sealed = await provider.encrypt(plaintext, context);
          const { ciphertext, keyId, annotations } = sealed;
          return { message: { ciphertext, key_id: keyId, annotations }, keyId };
        } finally {
          plaintext.fill(0);
        }
      });
    },
    Decrypt: (call: ServerUnaryCall<WireDecrypt, unknown>, answer: sendUnaryData<unknown>) => {
      const { ciphertext, uid, key_id: keyId, annotations } = call.request;
      serve("Decrypt", call, uid, keyId, answer, observe, async (context) => {
        const plaintext = await provider.decrypt({ ciphertext, keyId, annotations }, context);
        return { message: { plaintext }, keyId, wipe: plaintext };
      });
    },
  };
}

function answerStatus(
  provider: KmsProvider,
  call: ServerUnaryCall<unknown, unknown>,
  answer: sendUnaryData<unknown>,
  observe: RequestObserver,
): void {
  const startedAt = performance.now();
  const client = clientOf(call);
  const done = (outcome: Pick<FinishedRequest, "keyId" | "healthz" | "error">): void => {
    const seconds = (performance.now() - startedAt) / 1000;
    observe({ operation: "Status", uid: "", ...outcome, seconds, hsmCalls: [], ...client });
  };
  try {
    const { healthz, keyId } = provider.status();
    answer(null, { version: KMS_VERSION, healthz, key_id: keyId });
    done({ keyId, healthz, error: undefined });
  } catch (thrown) {
    const error = KmsError.from(thrown);
    answer(wireError(error));
    done({ keyId: undefined, error });
  }
}

interface Served {
  readonly message: object;
  readonly keyId: string;
  /** Bytes to zero once the answer has been serialised. */
  readonly wipe?: Uint8Array;
}

function serve(
  operation: Operation,
  call: ServerUnaryCall<unknown, unknown>,
  uid: string,
  askedKeyId: string | undefined,
  answer: sendUnaryData<unknown>,
  observe: RequestObserver,
  work: (context: RequestContext) => Promise<Served>,
): void {
  const startedAt = performance.now();
  // Read now: a closed connection has no name.
  const client = clientOf(call);
  const hsmCalls: HsmCall[] = [];
  const arrivedAt = Number(call.metadata.get(ARRIVED_AT)[0] ?? startedAt);
  const context: RequestContext = { uid, startedAt, arrivedAt, hsmCalls, cancelled: false };
  call.on("cancelled", () => {
    context.cancelled = true;
  });
  const done = (keyId: string | undefined, error: KmsError | undefined): void => {
    const seconds = (performance.now() - startedAt) / 1000;
    observe({ operation, uid, keyId, error, seconds, hsmCalls, ...client });
  };
  work(context).then(
    ({ message, keyId, wipe }) => {
      answer(null, message);
      // grpc-js has serialised the answer when this returns, so the original can be wiped.
      wipe?.fill(0);
      done(keyId, undefined);
    },
    (thrown: unknown) => {
      const error = KmsError.from(thrown);
      answer(wireError(error));
      done(askedKeyId, error);
    },
  );
}

function clientOf(
  call: ServerUnaryCall<unknown, unknown>,
): Pick<FinishedRequest, "peer" | "userAgent" | "traceparent"> {
  const text = (name: string): string | undefined => call.metadata.get(name)[0]?.toString();
  return { peer: call.getPeer(), userAgent: text("user-agent"), traceparent: text("traceparent") };
}

function wireError(error: KmsError): { code: number; details: string } {
  return { code: grpcStatusOf(error.code), details: error.message };
}
