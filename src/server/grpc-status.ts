// The one table from a domain error to a gRPC status.
import { status } from "@grpc/grpc-js";
import type { ErrorCode } from "../errors.js";

const GRPC_STATUS = {
  CONFIG_INVALID: status.FAILED_PRECONDITION,
  INPUT_INVALID: status.INVALID_ARGUMENT,
  NOT_AUTHENTIC: status.INVALID_ARGUMENT,
  KEY_UNKNOWN: status.NOT_FOUND,
  KEY_MISSING: status.FAILED_PRECONDITION,
  KEY_AMBIGUOUS: status.FAILED_PRECONDITION,
  KEY_UNSUITABLE: status.FAILED_PRECONDITION,
  MECHANISM_UNSUPPORTED: status.FAILED_PRECONDITION,
  GENERATION_UNSUPPORTED: status.FAILED_PRECONDITION,
  MODULE_UNUSABLE: status.FAILED_PRECONDITION,
  TOKEN_NOT_FOUND: status.FAILED_PRECONDITION,
  PIN_REFUSED: status.FAILED_PRECONDITION,
  PIN_UNREADABLE: status.FAILED_PRECONDITION,
  STATE_UNUSABLE: status.FAILED_PRECONDITION,
  TOKEN_REFUSED: status.FAILED_PRECONDITION,
  NOT_APPROVED: status.FAILED_PRECONDITION,
  HSM_UNAVAILABLE: status.UNAVAILABLE,
  SESSION_LOST: status.UNAVAILABLE,
  DEADLINE: status.DEADLINE_EXCEEDED,
  OVERLOADED: status.RESOURCE_EXHAUSTED,
  CANCELLED: status.CANCELLED,
  STOPPING: status.UNAVAILABLE,
  SOCKET_UNUSABLE: status.INTERNAL,
  PEER_UNREACHABLE: status.UNAVAILABLE,
  INTERNAL: status.INTERNAL,
} as const satisfies Record<ErrorCode, status>;

/** Returns the gRPC status of an error code. */
export function grpcStatusOf(code: ErrorCode): status {
  return GRPC_STATUS[code];
}

/** Returns the status's name for metrics and logs; OK for undefined. */
export function grpcStatusName(code: ErrorCode | undefined): string {
  return code === undefined ? "OK" : status[GRPC_STATUS[code]];
}
