// What the plugin does about a failed PKCS#11 call. The token host decides it by the CK_RV (its CKR table) and reports
// it over the wire.

/**
 * - `input`: the request is at fault; no retry
 * - `session`: the session was replaced, and the call failed again
 * - `login`: the token host is logged out; log in, then try again
 * - `object`: the KEK is not on the token
 * - `device`: the module or token is broken for this process; replace the token host
 * - `setup`: an operator has to act; a retry changes nothing
 * - `capacity`: no session or memory is left at the moment
 */
export const FAULT_CLASSES = ["input", "session", "login", "object", "device", "setup", "capacity"] as const;
/** What the plugin does about a failed call. */
export type FaultClass = (typeof FAULT_CLASSES)[number];

/** What a failed login says about the PIN: it is wrong; it was not refused; or the error leaves that open. */
export const PIN_VERDICTS = ["wrong", "unspent", "unknown"] as const;
/** What a failed login says about the PIN. */
export type PinVerdict = (typeof PIN_VERDICTS)[number];
