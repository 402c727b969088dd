// Lists the errors that mean that the token cannot be used now, as opposed to errors about a key or a request. This
// list alone decides whether another token is asked, whether an outage begins, and whether a KEK has failed its proof.
import type { ErrorCode, KmsError } from "../errors.js";

const AWAY = {
  CONFIG_INVALID: false,
  INPUT_INVALID: false,
  NOT_AUTHENTIC: false,
  KEY_UNKNOWN: false,
  KEY_MISSING: false,
  KEY_AMBIGUOUS: false,
  KEY_UNSUITABLE: false,
  MECHANISM_UNSUPPORTED: false,
  GENERATION_UNSUPPORTED: false,
  MODULE_UNUSABLE: true,
  TOKEN_NOT_FOUND: true,
  PIN_REFUSED: true,
  PIN_UNREADABLE: true,
  STATE_UNUSABLE: true,
  TOKEN_REFUSED: false,
  NOT_APPROVED: false,
  HSM_UNAVAILABLE: true,
  SESSION_LOST: true,
  DEADLINE: true,
  // Only the plugin's own queue is full: a token that cannot keep up still answers.
  OVERLOADED: false,
  CANCELLED: false,
  STOPPING: true,
  SOCKET_UNUSABLE: false,
  PEER_UNREACHABLE: false,
  INTERNAL: false,
} as const satisfies Record<ErrorCode, boolean>;

/** Returns whether an error means that the HSM is away. */
export function meansHsmAway(error: KmsError): boolean {
  return AWAY[error.code];
}
