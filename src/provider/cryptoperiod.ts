// Reports when the active KEK approaches or has passed the end of its cryptoperiod (NIST SP 800-57 part 1, section 5.3), the time in
// which a key may encrypt. It does not concern a retired KEK, which only decrypts.
const DAY_MS = 86_400_000;
const HOUR_MS = 3_600_000;
/** Fraction of the cryptoperiod after which a finding appears, as in the alert KmsPkcs11CryptoperiodEnds. */
const NEAR = 0.9;

/**
 * Returns what to do about an active KEK's age; undefined if it is well within its cryptoperiod, or none is configured.
 * @param activation ms since the epoch; not finite for a KEK without an activation instant, whose age is unknown
 */
export function cryptoperiodFinding(
  activation: number | undefined,
  now: number,
  cryptoperiodMs: number | undefined,
): string | undefined {
  if (cryptoperiodMs === undefined) return undefined;
  if (activation === undefined || !Number.isFinite(activation)) {
    return "it has no activation instant, so its cryptoperiod cannot be checked; rotate it";
  }
  if (now - activation < NEAR * cryptoperiodMs) return undefined;
  const left = activation + cryptoperiodMs - now;
  const when = left < 0 ? `ended ${span(-left)} ago` : `ends in ${span(left)}`;
  return `its cryptoperiod (keys.cryptoperiod) ${when}; rotate it`;
}

function span(ms: number): string {
  const [unit, name] = ms >= 2 * DAY_MS ? ([DAY_MS, "days"] as const) : ([HOUR_MS, "hours"] as const);
  return `${Math.floor(ms / unit)} ${name}`;
}
