// Logs the progress of a long reading of the token; a short one logs nothing.
import type { Log } from "../../log.js";
import type { ReadingProgress } from "../wire-calls.js";

/** Minimum time before the first line and between two lines, in ms. */
const EVERY_MS = 5_000;

/** Returns a function that takes the progress of one reading. @param now a monotonic clock in ms */
export function progressLog(
  log: Log,
  now: () => number = () => performance.now(),
): (progress: ReadingProgress) => void {
  let loggedAt = now();
  return ({ seen, objects }) => {
    if (now() - loggedAt < EVERY_MS) return;
    loggedAt = now();
    log.info({ seen, objects }, "reading the token's keys");
  };
}
