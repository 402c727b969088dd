// The one table from a domain error to a gRPC status.
import type { ErrorCode } from "../errors.js";
import { GrpcCode, type GrpcName } from "./grpc-code.js";

const GRPC_STATUS = {
  CONFIG_INVALID: "FAILED_PRECONDITION",
  INPUT_INVALID: "INVALID_ARGUMENT",
  NOT_AUTHENTIC: "INVALID_ARGUMENT",
  KEY_UNKNOWN: "NOT_FOUND",
  KEY_MISSING: "FAILED_PRECONDITION",
  KEY_AMBIGUOUS: "FAILED_PRECONDITION",
  KEY_UNSUITABLE: "FAILED_PRECONDITION",
  MECHANISM_UNSUPPORTED: "FAILED_PRECONDITION",
  MODULE_UNUSABLE: "FAILED_PRECONDITION",
  TOKEN_NOT_FOUND: "FAILED_PRECONDITION",
  PIN_REFUSED: "FAILED_PRECONDITION",
  PIN_UNREADABLE: "FAILED_PRECONDITION",
  TOKEN_REFUSED: "FAILED_PRECONDITION",
  HSM_UNAVAILABLE: "UNAVAILABLE",
  SESSION_LOST: "UNAVAILABLE",
  DEADLINE: "DEADLINE_EXCEEDED",
  OVERLOADED: "RESOURCE_EXHAUSTED",
  CANCELLED: "CANCELLED",
  STOPPING: "UNAVAILABLE",
  SOCKET_UNUSABLE: "INTERNAL",
  PEER_UNREACHABLE: "UNAVAILABLE",
  INTERNAL: "INTERNAL",
} as const satisfies Record<ErrorCode, GrpcName>;

export function grpcStatusOf(code: ErrorCode): (typeof GrpcCode)[GrpcName] {
  return GrpcCode[GRPC_STATUS[code]];
}

/** The status' name, as metrics and logs show it. */
export function grpcStatusName(code: ErrorCode | undefined): GrpcName {
  return code === undefined ? "OK" : GRPC_STATUS[code];
}
