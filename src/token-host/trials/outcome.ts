// The outcome of a call as trials report it: "ok", or the CK_RV with its number first, for people and programs.
import type { Outcome } from "../../hsm/wire-trials.js";
import { CKR_TABLE } from "../ckr-table.js";
import { toFault, type TokenFault } from "../ckr.js";
import type { Attempt } from "../session.js";

/** Returns the outcome of an attempt. */
export function outcomeOf(attempt: Attempt<unknown>): Outcome {
  return attempt.ok ? "ok" : faultOutcome(attempt.fault);
}

/** Returns the outcome that a fault stands for. */
export function faultOutcome({ rv, message }: TokenFault): Outcome {
  if (rv === undefined) return message;
  return `0x${rv.toString(16)} ${CKR_TABLE[rv]?.name ?? "not in the standard"}`;
}

/** Returns the outcome of work that throws if it fails. */
export function outcomeOfWork(work: () => unknown): Outcome {
  try {
    work();
    return "ok";
  } catch (error) {
    return faultOutcome(toFault(error, "a trial"));
  }
}
