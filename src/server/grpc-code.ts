// The status codes of gRPC (grpc/grpc, doc/statuscodes.md) that this server answers with.

export const GrpcCode = {
  OK: 0,
  CANCELLED: 1,
  INVALID_ARGUMENT: 3,
  DEADLINE_EXCEEDED: 4,
  NOT_FOUND: 5,
  RESOURCE_EXHAUSTED: 8,
  FAILED_PRECONDITION: 9,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
  UNAVAILABLE: 14,
} as const;

export type GrpcName = keyof typeof GrpcCode;

export interface GrpcStatus {
  readonly code: (typeof GrpcCode)[GrpcName];
  /** For the caller; one line. */
  readonly details: string;
}
