// One control call on one lane, and its time limit.
import { encodeControlFrame } from "../wire.js";
import { decodeControlReply } from "../wire-replies.js";
import type { ControlOp, ControlReply, ControlRequest } from "../wire-calls.js";
import { HostFailure } from "./host-failure.js";
import type { LaneClient, Reply } from "./lane-client.js";

/** Makes a control call on a lane and returns its reply, or throws a HostFailure. */
export async function callOn<O extends ControlOp>(
  lane: LaneClient,
  op: O,
  request: ControlRequest<O>,
  secret?: Uint8Array,
): Promise<ControlReply<O>> {
  const reply = await new Promise<Reply>((resolve) => {
    lane.send((id) => encodeControlFrame(id, op, request, secret), resolve, true);
  });
  if (!reply.ok) throw new HostFailure(reply.failure);
  return decodeControlReply(op, reply.body);
}

/** Runs `work`, and kills the host if it takes longer than `limitMs`: nothing else ends a vendor call that hangs. */
export async function killOnTimeout<T>(
  host: { kill(cause: "hang"): void },
  limitMs: number,
  work: () => Promise<T>,
): Promise<T> {
  const timer = setTimeout(() => {
    host.kill("hang");
  }, limitMs);
  try {
    return await work();
  } finally {
    clearTimeout(timer);
  }
}
