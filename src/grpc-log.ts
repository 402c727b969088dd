// Silences grpc-js, which prints peers' headers unescaped to standard error, as often as a peer sends them. Its callers
// receive errors in any case.
import { env } from "node:process";
import { logVerbosity, setLogVerbosity } from "@grpc/grpc-js";

/** Silences grpc-js, unless GRPC_VERBOSITY or GRPC_NODE_VERBOSITY is set in the environment. */
export function muteGrpc(): void {
  if ((env["GRPC_NODE_VERBOSITY"] ?? env["GRPC_VERBOSITY"] ?? "") === "") setLogVerbosity(logVerbosity.NONE);
}
