// What the HSM layer reports of its calls and its token hosts: to the metrics, and for each request to its caller.
import { Op } from "../wire-calls.js";
import type { EndCause } from "./host-process.js";
import type { Job } from "./job.js";
import type { Reply } from "./lane-client.js";

/** What the HSM layer reports; implemented by the metrics. */
export interface HsmObserver {
  hsmCallDone(operation: string, result: string, seconds: number): void;
  hostEnded(cause: EndCause): void;
}

const OPERATION_NAMES = { [Op.encrypt]: "encrypt", [Op.decrypt]: "decrypt" } as const;

/**
 * Reports one answered copy of a job, and returns its result: "ok", "altered" if the token returned a wrong result at
 * first, or the fault class.
 * @param sentAt by performance.now(), like `endedAt`
 */
export function reportCall(
  observer: HsmObserver,
  job: Job,
  reply: Reply,
  sentAt: number,
  endedAt: number,
): string {
  const seconds = (endedAt - sentAt) / 1000;
  const operation = OPERATION_NAMES[job.op];
  const result = reply.ok ? (reply.repeated === true ? "altered" : "ok") : reply.failure.fault;
  observer.hsmCallDone(operation, result, seconds);
  job.caller.hsmCalls?.push({ operation, result, endedAt, seconds });
  return result;
}
