// Chooses the token host and the lane that a request is sent to.
import { otherHostAfterMs } from "../hedging.js";
import type { HostProcess } from "./host-process.js";
import type { Job } from "./job.js";
import type { LaneClient } from "./lane-client.js";

/** A lane and the token host that it belongs to. */
export interface Destination {
  readonly host: HostProcess;
  readonly lane: LaneClient;
}

/**
 * Returns a lane of the serving host, or of another host if that one is late or has already received the job; undefined
 * if no lane is free.
 * @param ready hosts that may be given requests, the serving one first
 */
export function chooseDestination(
  job: Job,
  ready: readonly HostProcess[],
  requestTimeoutMs: number,
): Destination | undefined {
  const lateMs = otherHostAfterMs(requestTimeoutMs);
  const now = performance.now();
  const isLate = (host: HostProcess): boolean =>
    host.lanes.busySince !== undefined && now - host.lanes.busySince > lateMs;
  for (const host of [...ready.filter((one) => !isLate(one)), ...ready.filter(isLate)]) {
    const lane = job.sentTo.includes(host) ? undefined : host.lanes.pick();
    if (lane !== undefined) return { host, lane };
  }
  return undefined;
}
