// KMS v2 in domain terms: the three calls of kube-apiserver without gRPC. The server copies fields to and
// from these shapes and knows nothing else of the provider. Limits are those of the API server's own
// checks (k8s.io/apiserver, pkg/storage/value/encrypt/envelope/kmsv2).
import type { HsmCall } from "../hsm/port.js";

/** Longest plaintext taken, in bytes: its envelope stays within MAX_CIPHERTEXT_BYTES in every mode. */
export const MAX_PLAINTEXT_BYTES = 768;
/** Longest ciphertext and key_id, in bytes; kube-apiserver refuses more than 1024 (we keep one in hand). */
export const MAX_CIPHERTEXT_BYTES = 1023;
export const MAX_KEY_ID_BYTES = 1023;
/** Most annotation bytes, keys and values together, that kube-apiserver takes. */
export const MAX_ANNOTATION_BYTES = 32 * 1024;

export type Annotations = Readonly<Record<string, Uint8Array>>;

export interface StatusAnswer {
  /** Exactly "ok", or one line for the operator. */
  readonly healthz: string;
  /** The key_id that Encrypt uses from this answer on. */
  readonly keyId: string;
}

export interface EncryptAnswer {
  readonly ciphertext: Uint8Array;
  readonly keyId: string;
  readonly annotations: Annotations;
}

export interface DecryptQuestion {
  readonly ciphertext: Uint8Array;
  readonly keyId: string;
  readonly annotations: Annotations;
}

/** What is known of a request beside its content. The server sets `cancelled` when the caller goes away. */
export interface RequestContext {
  readonly uid: string;
  /** When it arrived, by performance.now(): its time runs from there. */
  readonly startedAt: number;
  /** Where its calls to the HSM are put down. */
  readonly hsmCalls?: HsmCall[];
  cancelled: boolean;
}

/** Every method fails with a KmsError and with nothing else. */
export interface KmsProvider {
  /**
   * Answers from memory. Its key_id becomes the one Encrypt uses.
   * @throws KmsError when there is no key_id to answer with, or writes are to stop
   */
  status(): StatusAnswer;
  /** @param plaintext the DEK seed, 1 to MAX_PLAINTEXT_BYTES; not kept and not changed */
  encrypt(plaintext: Uint8Array, context: RequestContext): Promise<EncryptAnswer>;
  /** Returns the DEK seed in a buffer that belongs to the caller. */
  decrypt(question: DecryptQuestion, context: RequestContext): Promise<Uint8Array>;
}
