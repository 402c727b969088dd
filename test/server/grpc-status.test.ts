// The gRPC status and the exit code of every error code.

import { status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";

import { exitCodeOf } from "../../src/cli/exit-code.js";
import { ERROR_CODES, type ErrorCode } from "../../src/errors.js";
import { grpcStatusName, grpcStatusOf } from "../../src/server/grpc-status.js";

/** The gRPC status and the exit code of each error; a code without a row here does not compile. */
const SEEN: Readonly<Record<ErrorCode, readonly [string, number]>> = {
  CONFIG_INVALID: ["FAILED_PRECONDITION", 2],
  INPUT_INVALID: ["INVALID_ARGUMENT", 2],
  NOT_AUTHENTIC: ["INVALID_ARGUMENT", 1],
  KEY_UNKNOWN: ["NOT_FOUND", 1],
  KEY_MISSING: ["FAILED_PRECONDITION", 1],
  KEY_AMBIGUOUS: ["FAILED_PRECONDITION", 1],
  KEY_UNSUITABLE: ["FAILED_PRECONDITION", 1],
  MECHANISM_UNSUPPORTED: ["FAILED_PRECONDITION", 1],
  GENERATION_UNSUPPORTED: ["FAILED_PRECONDITION", 1],
  MODULE_UNUSABLE: ["FAILED_PRECONDITION", 2],
  TOKEN_NOT_FOUND: ["FAILED_PRECONDITION", 3],
  PIN_REFUSED: ["FAILED_PRECONDITION", 1],
  PIN_UNREADABLE: ["FAILED_PRECONDITION", 2],
  STATE_UNUSABLE: ["FAILED_PRECONDITION", 2],
  TOKEN_REFUSED: ["FAILED_PRECONDITION", 1],
  NOT_APPROVED: ["FAILED_PRECONDITION", 1],
  HSM_UNAVAILABLE: ["UNAVAILABLE", 3],
  SESSION_LOST: ["UNAVAILABLE", 3],
  DEADLINE: ["DEADLINE_EXCEEDED", 3],
  OVERLOADED: ["RESOURCE_EXHAUSTED", 3],
  CANCELLED: ["CANCELLED", 130],
  STOPPING: ["UNAVAILABLE", 3],
  SOCKET_UNUSABLE: ["INTERNAL", 2],
  PEER_UNREACHABLE: ["UNAVAILABLE", 3],
  INTERNAL: ["INTERNAL", 1],
};

describe("an error's way out", () => {
  it.each(ERROR_CODES)("%s", (code) => {
    const [grpc, exit] = SEEN[code];
    expect([status[grpcStatusOf(code)], grpcStatusName(code), exitCodeOf(code)]).toEqual([grpc, grpc, exit]);
  });

  it("a request without an error has the gRPC status OK", () => {
    expect(grpcStatusName(undefined)).toBe("OK");
  });
});
