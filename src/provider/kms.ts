// KMS v2 in domain terms: kube-apiserver's three calls without gRPC. The server copies fields to and from these shapes
// and knows nothing else of the provider. The limits are those that kube-apiserver checks
// (k8s.io/apiserver, pkg/storage/value/encrypt/envelope/kmsv2).
import type { HsmCall } from "../hsm/port.js";

/** Longest accepted plaintext, in bytes: its envelope stays within MAX_CIPHERTEXT_BYTES in every mode. */
export const MAX_PLAINTEXT_BYTES = 768;
/** Longest ciphertext, in bytes: one less than kube-apiserver accepts. */
export const MAX_CIPHERTEXT_BYTES = 1023;
/** Longest key_id, in bytes: one less than kube-apiserver accepts. */
export const MAX_KEY_ID_BYTES = 1023;
/** Longest annotations that kube-apiserver accepts, keys and values together, in bytes. */
export const MAX_ANNOTATION_BYTES = 32 * 1024;

/** The annotations of an encrypted object, by name. */
export type Annotations = Readonly<Record<string, Uint8Array>>;

/** The answer to Status. */
export interface StatusAnswer {
  /** Exactly "ok", or one line for the operator. */
  readonly healthz: string;
  /** The key_id that Encrypt uses after this answer. */
  readonly keyId: string;
}

/** The answer to Encrypt. */
export interface EncryptAnswer {
  readonly ciphertext: Uint8Array;
  readonly keyId: string;
  readonly annotations: Annotations;
}

/** The request of a Decrypt. */
export interface DecryptQuestion {
  readonly ciphertext: Uint8Array;
  readonly keyId: string;
  readonly annotations: Annotations;
}

/** A request without its content. The server sets `cancelled` when the caller disconnects. */
export interface RequestContext {
  readonly uid: string;
  /** When it began to be served, by performance.now(); its timeout starts then. */
  readonly startedAt: number;
  /** When it arrived; it may have waited for its turn. Undefined: when it began to be served. */
  readonly arrivedAt?: number | undefined;
  /** Collects the calls to the HSM made for it. */
  readonly hsmCalls?: HsmCall[];
  cancelled: boolean;
}

/** Every method fails with a KmsError and with nothing else. */
export interface KmsProvider {
  /**
   * Answers from memory, and publishes the key_id of the answer, which Encrypt uses from then on.
   * @throws KmsError if there is no key_id to answer with, or if writes must stop
   */
  status(): StatusAnswer;
  /** Encrypts a DEK seed of 1 to MAX_PLAINTEXT_BYTES, which is neither stored nor changed. */
  encrypt(plaintext: Uint8Array, context: RequestContext): Promise<EncryptAnswer>;
  /** Decrypts to a DEK seed in a buffer that belongs to the caller. */
  decrypt(question: DecryptQuestion, context: RequestContext): Promise<Uint8Array>;
}
