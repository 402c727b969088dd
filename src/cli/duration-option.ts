// Durations that options give, such as --max-age 720h.
import { parseDuration } from "../config/duration.js";
import { KmsError } from "../errors.js";

/** Returns milliseconds. @param example shown in the message @throws KmsError CONFIG_INVALID if it is not a duration */
export function durationOf(option: string, text: string, example: string): number {
  const ms = parseDuration(text);
  if (ms !== undefined) return ms;
  throw new KmsError("CONFIG_INVALID", `${option}: give a duration such as ${example}`);
}
