// Parses a cryptoperiod, which may be in days, unlike other durations.
import { parseDuration } from "./duration.js";
import { invalid } from "./invalid.js";

const DAY_MS = 86_400_000;
const HOUR_MS = 3_600_000;
const MOST_DAYS = 3650;

/** Returns milliseconds. @throws KmsError CONFIG_INVALID */
export function parseCryptoperiod(text: string): number {
  const days = /^(\d{1,4})d$/.exec(text)?.[1];
  const ms = days === undefined ? parseDuration(text) : Number(days) * DAY_MS;
  if (ms !== undefined && ms >= HOUR_MS && ms <= MOST_DAYS * DAY_MS) return ms;
  throw invalid("is not a time from 1h to 3650d; give one such as 90d");
}
