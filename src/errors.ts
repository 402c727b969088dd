// The one error of this code base. A KmsError carries a code from a closed union, a message that may be
// shown to anybody (it names keys and next steps, never data, PINs or key material) and, for the log
// only, its cause. How a code reaches a caller is decided in one table per way out:
// `server/grpc-status.ts` for gRPC, `cli/exit-code.ts` for the shell.

export const ERROR_CODES = [
  /** The command line or the configuration cannot be used as it stands. */
  "CONFIG_INVALID",
  /** A request is malformed: empty, oversized, unknown version, fields that do not fit together. */
  "INPUT_INVALID",
  /** A ciphertext does not authenticate under the KEK and the associated data given. */
  "NOT_AUTHENTIC",
  /** No KEK on the token carries this key_id. */
  "KEY_UNKNOWN",
  /** No usable KEK is on the token at all, or the one that is needed has gone. */
  "KEY_MISSING",
  /** Several keys claim to be the active KEK and nothing decides between them. */
  "KEY_AMBIGUOUS",
  /** A KEK exists but its attributes, type or self-test rule it out. */
  "KEY_UNSUITABLE",
  /** Neither the key nor the token performs the mechanism that is asked for. */
  "MECHANISM_UNSUPPORTED",
  /** The vendor library cannot be loaded or is not a PKCS#11 module. */
  "MODULE_UNUSABLE",
  /** No slot holds the token that the URI names, or several do. */
  "TOKEN_NOT_FOUND",
  /** The token refused the PIN, is locked, or one more try would be its last. */
  "PIN_REFUSED",
  /** The PIN source cannot be read, or holds what cannot be a PIN. */
  "PIN_UNREADABLE",
  /** The state directory cannot be used, and the operation must be recorded there first. */
  "STATE_UNUSABLE",
  /** The token refuses the operation for good: read-only, write-protected, not permitted. */
  "TOKEN_REFUSED",
  /** The HSM, its module or the token host is away for now. */
  "HSM_UNAVAILABLE",
  /** A session, login or object handle was lost and could not be had again in time. */
  "SESSION_LOST",
  /** The HSM did not answer within the request's time. */
  "DEADLINE",
  /** More requests are waiting than may wait. */
  "OVERLOADED",
  /** The caller went away before the answer was there. */
  "CANCELLED",
  /** The plugin is stopping. */
  "STOPPING",
  /** The socket's path is taken, unsafe or cannot be bound. */
  "SOCKET_UNUSABLE",
  /** A peer (plugin, etcd, API server) cannot be reached or does not answer as it should. */
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
   * Returns `error` if it is a KmsError already; otherwise wraps it as HSM_UNAVAILABLE if no more files can be opened, or
   * else as INTERNAL.
   */
  static from(error: unknown): KmsError {
    if (error instanceof KmsError) return error;
    const limit = fileLimitIn(error);
    if (limit !== undefined) return new KmsError("HSM_UNAVAILABLE", limit, error);
    return new KmsError("INTERNAL", "internal error; the log has its cause", error);
  }
}

/** Returns what to do about an error, or a cause of one, that says that no more files can be opened; undefined for others. */
export function fileLimitIn(error: unknown): string | undefined {
  for (let at = error; at instanceof Error; at = at.cause) {
    const { code } = at as NodeJS.ErrnoException;
    if (code === "EMFILE") {
      return "too many open files (EMFILE); raise the limit: ulimit -n 1024, or LimitNOFILE=1024 in the systemd unit";
    }
    if (code === "ENFILE") {
      return "the system has too many open files (ENFILE); raise fs.file-max with sysctl";
    }
  }
  return undefined;
}
