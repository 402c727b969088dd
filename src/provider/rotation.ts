// Planning a rotation: a new generation whose instant lies ahead of every other one, far enough for every
// node to see it first. Pure; the key itself is made by the token.
import { KmsError } from "../errors.js";
import { activeAt, type Generation, type Schedule, type SchedulePolicy } from "./generations.js";
import { formatInstant, labelOf, parseInstant } from "./kek-label.js";

/** Longer than every poll of every node, in ms: a standby KEK has to be seen and proven before its instant. */
export const DEFAULT_DELAY_MS = 10 * 60_000;
/** Below this, nodes with the default poll may not have seen the key when it falls due. */
export const SHORT_DELAY_MS = 2 * 60_000;

export interface RotationPlan {
  readonly label: string;
  /** ms since the epoch, a whole second. */
  readonly activation: number;
  readonly from: Generation;
  readonly warnings: readonly string[];
}

/**
 * @param activation ms since the epoch
 * @throws KmsError INPUT_INVALID for an instant that would not make the new key the active one; KEY_MISSING
 * when there is nothing to rotate from
 */
export function planRotation(
  schedule: Schedule,
  policy: SchedulePolicy,
  now: number,
  activation: number,
): RotationPlan {
  const instant = Math.ceil(activation / 1000) * 1000;
  const from = activeAt(schedule, policy, now);
  if (instant < now) {
    throw new KmsError(
      "INPUT_INVALID",
      `the activation instant ${iso(instant)} has passed; choose one ahead of ${iso(now)}`,
    );
  }
  if (parseInstant(formatInstant(instant)) === undefined) {
    throw new KmsError(
      "INPUT_INVALID",
      `the activation instant ${iso(instant)} does not fit a label, whose years have four digits; choose an earlier one`,
    );
  }
  const [latest] = schedule.generations;
  if (latest !== undefined && latest.activation >= instant) {
    throw new KmsError(
      "INPUT_INVALID",
      `"${latest.record.label}" is to become active at ${iso(latest.activation)}; the new key has to come after it, or destroy that one first`,
    );
  }
  const short = instant - now < SHORT_DELAY_MS;
  return {
    label: labelOf(policy.objectName, instant),
    activation: instant,
    from,
    warnings: short
      ? [
          `active in less than ${SHORT_DELAY_MS / 1000} s: a node that has not seen the key by then goes on with the earlier one`,
        ]
      : [],
  };
}

function iso(instant: number): string {
  return new Date(instant).toISOString();
}
