// Durations that options give, such as --max-age 720h.
import { parseDuration } from "../config/duration.js";
import { KmsError } from "../errors.js";
import { truncate } from "../untrusted-text.js";

/** 100 years: instants stay within four-digit years, and gRPC's deadlines within what it can send. */
const LONGEST_MS = 100 * 365 * 24 * 3_600_000;
const FORM = "whole numbers with h, m, s or ms, such as";

/**
 * Returns milliseconds.
 * @param example shown in the message
 * @param leastMs of the duration
 * @throws KmsError CONFIG_INVALID if it is not a duration, shorter, or longer than 100 years
 */
export function durationOf(option: string, text: string, example: string, leastMs = 0): number {
  const ms = parseDuration(text);
  const refused = (problem: string): KmsError =>
    new KmsError("CONFIG_INVALID", `${option}: ${JSON.stringify(truncate(text, 40))} ${problem}`);
  if (ms === undefined) throw refused(`is not a duration; give ${FORM} ${example}`);
  if (ms < leastMs) throw refused(`is too short; give a duration above 0, such as ${example}`);
  if (ms > LONGEST_MS) throw refused(`is too long; give one such as ${example}`);
  return ms;
}
