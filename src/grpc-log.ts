// What grpc-js prints by itself: it quotes peers' headers as they are, on standard error, and as often as a peer sends
// them. Logs and terminals get none of it; errors reach the callers of gRPC in any case.
import { env } from "node:process";
import { logVerbosity, setLogVerbosity } from "@grpc/grpc-js";

/** Ends the messages of grpc-js, unless the environment asks for them: GRPC_VERBOSITY or GRPC_NODE_VERBOSITY is set. */
export function muteGrpc(): void {
  if ((env["GRPC_NODE_VERBOSITY"] ?? env["GRPC_VERBOSITY"] ?? "") === "") setLogVerbosity(logVerbosity.NONE);
}
