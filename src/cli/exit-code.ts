// The exit codes of every command: 0 done; 1 negative result; 2 usage or configuration; 3 HSM or network not reachable;
// 4 the result could not be written; 130 interrupted. One row per error code.
import type { ErrorCode } from "../errors.js";

/** A negative result. */
export const EXIT_NO = 1;
export const EXIT_USAGE = 2;
export const EXIT_UNREACHABLE = 3;
/** The command ran, but its result could not be written to standard output. */
export const EXIT_OUTPUT = 4;
/** Cancelled by Ctrl-C, another interrupt or at a question: what shells report for a program that SIGINT kills. */
export const EXIT_INTERRUPTED = 130;

const EXIT_CODES = {
  CONFIG_INVALID: EXIT_USAGE,
  INPUT_INVALID: EXIT_USAGE,
  SOCKET_UNUSABLE: EXIT_USAGE,
  MODULE_UNUSABLE: EXIT_USAGE,
  PIN_UNREADABLE: EXIT_USAGE,
  STATE_UNUSABLE: EXIT_USAGE,
  NOT_AUTHENTIC: EXIT_NO,
  KEY_UNKNOWN: EXIT_NO,
  KEY_MISSING: EXIT_NO,
  KEY_AMBIGUOUS: EXIT_NO,
  KEY_UNSUITABLE: EXIT_NO,
  MECHANISM_UNSUPPORTED: EXIT_NO,
  GENERATION_UNSUPPORTED: EXIT_NO,
  TOKEN_REFUSED: EXIT_NO,
  PIN_REFUSED: EXIT_NO,
  NOT_APPROVED: EXIT_NO,
  TOKEN_NOT_FOUND: EXIT_UNREACHABLE,
  HSM_UNAVAILABLE: EXIT_UNREACHABLE,
  SESSION_LOST: EXIT_UNREACHABLE,
  DEADLINE: EXIT_UNREACHABLE,
  OVERLOADED: EXIT_UNREACHABLE,
  STOPPING: EXIT_UNREACHABLE,
  PEER_UNREACHABLE: EXIT_UNREACHABLE,
  CANCELLED: EXIT_INTERRUPTED,
  INTERNAL: EXIT_NO,
} as const satisfies Record<ErrorCode, number>;

/** Returns the exit code of a command that failed with this error. */
export function exitCodeOf(code: ErrorCode): number {
  return EXIT_CODES[code];
}
