// The only error class of this project. A KmsError has a code from a closed union, a public message (it names keys and
// next steps, never data, PINs or key material) and, for the log only, its cause. Two tables translate the codes:
// `server/grpc-status.ts` for gRPC, `cli/exit-code.ts` for the shell.
import { fileLimitIn } from "./file-limit.js";

export const ERROR_CODES = [
  /** The command line or the configuration is invalid. */
  "CONFIG_INVALID",
  /** A request is malformed: empty, oversized, of an unknown version, or with contradictory fields. */
  "INPUT_INVALID",
  /** A ciphertext does not authenticate under the given KEK and associated data. */
  "NOT_AUTHENTIC",
  /** No KEK on the token has this key_id. */
  "KEY_UNKNOWN",
  /** The token holds no usable KEK, or the required KEK is gone. */
  "KEY_MISSING",
  /** Several keys could be the active KEK, and nothing decides between them. */
  "KEY_AMBIGUOUS",
  /** A KEK exists but cannot be used because of its attributes, type or self-test. */
  "KEY_UNSUITABLE",
  /** The key or the token does not perform the requested mechanism. */
  "MECHANISM_UNSUPPORTED",
  /** The token cannot generate secret keys: its vendor's tool makes them. */
  "GENERATION_UNSUPPORTED",
  /** The vendor library cannot be loaded or is not a PKCS#11 module. */
  "MODULE_UNUSABLE",
  /** No slot, or more than one, holds the token that the URI names. */
  "TOKEN_NOT_FOUND",
  /** The token refused the PIN, is locked, or allows only one more PIN attempt. */
  "PIN_REFUSED",
  /** The PIN source cannot be read, or its content cannot be a PIN. */
  "PIN_UNREADABLE",
  /** The state directory cannot be used, and the operation must be recorded there first. */
  "STATE_UNUSABLE",
  /** The token permanently refuses the operation: read-only, write-protected, not permitted. */
  "TOKEN_REFUSED",
  /** The HSM, its module or the token host is temporarily unavailable. */
  "HSM_UNAVAILABLE",
  /** A session, login or object handle was lost and could not be restored in time. */
  "SESSION_LOST",
  /** The HSM did not answer within the request timeout. */
  "DEADLINE",
  /** An approval or a policy is invalid, or lacks a quorum. */
  "NOT_APPROVED",
  /** Too many requests are waiting. */
  "OVERLOADED",
  /** The caller disconnected before the response. */
  "CANCELLED",
  /** The plugin is stopping. */
  "STOPPING",
  /** The socket's path is in use or unsafe, or cannot be bound. */
  "SOCKET_UNUSABLE",
  /** A peer (plugin, etcd, API server) cannot be reached or sent an unusable response. */
  "PEER_UNREACHABLE",
  /** A defect of this program. */
  "INTERNAL",
] as const;

export type ErrorCode = (typeof ERROR_CODES)[number];

export class KmsError extends Error {
  readonly code: ErrorCode;

  /**
   * @param code what happened, for programs
   * @param message what happened and what to do, for people; public
   * @param cause the error underneath, for the log only
   */
  constructor(code: ErrorCode, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "KmsError";
    this.code = code;
  }

  /**
   * Returns a KmsError unchanged, and wraps any other error: as HSM_UNAVAILABLE if no more files can be opened, as
   * INTERNAL otherwise.
   */
  static from(error: unknown): KmsError {
    if (error instanceof KmsError) return error;
    const limit = fileLimitIn(error);
    if (limit !== undefined) return new KmsError("HSM_UNAVAILABLE", limit, error);
    return new KmsError("INTERNAL", "internal error; the log has its cause", error);
  }
}
