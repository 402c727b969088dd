// Plans a rotation: a new generation that is activated after every existing one, late enough for every node to read and
// prove it first. Pure; the token makes the key.
import { KmsError } from "../errors.js";
import { activeAt, type Generation, type Schedule, type SchedulePolicy } from "./generations.js";
import { formatInstant, labelOf, parseInstant } from "./kek-label.js";

/** Default time until activation, in ms. Every node must have read and proven the standby KEK by then. */
export const DEFAULT_DELAY_MS = 10 * 60_000;
/** With a shorter time, in ms, nodes with the default refresh interval may not know the KEK at its activation. */
export const SHORT_DELAY_MS = 2 * 60_000;

/** The new KEK to make, the KEK that it replaces, and warnings for the operator. */
export interface RotationPlan {
  readonly label: string;
  /** ms since the epoch, a whole second. */
  readonly activation: number;
  readonly from: Generation;
  readonly warnings: readonly string[];
}

/**
 * Returns the label and activation of the new KEK.
 * @param activation ms since the epoch
 * @throws KmsError INPUT_INVALID if the new KEK would not become active at this instant; KEY_MISSING if there is no KEK to
 *   rotate from
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
      `the activation instant ${iso(instant)} has passed; choose one after ${iso(now)}`,
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
      `"${latest.record.label}" becomes active at ${iso(latest.activation)}; choose a later instant, or destroy that KEK first`,
    );
  }
  const short = instant - now < SHORT_DELAY_MS;
  return {
    label: labelOf(policy.objectName, instant),
    activation: instant,
    from,
    warnings: short
      ? [
          `active in less than ${SHORT_DELAY_MS / 1000} s: a node that has not read the KEK by then keeps using the previous one`,
        ]
      : [],
  };
}

function iso(instant: number): string {
  return new Date(instant).toISOString();
}
