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
export type FaultClass = "input" | "session" | "login" | "object" | "device" | "setup" | "capacity";

/** What a failed login says about the PIN: it is wrong; it was not refused; or the error leaves that open. */
export type PinVerdict = "wrong" | "unspent" | "unknown";
