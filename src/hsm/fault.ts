// What the plugin does about a failed PKCS#11 call, decided by the token host from the CK_RV (its CKR
// table) and carried back over the wire.

/**
 * - `input`: the request is at fault; no retry
 * - `session`: the session was replaced and the call failed again
 * - `login`: the token host is logged out; log in, then try again
 * - `object`: the KEK is not on the token
 * - `device`: the module or token is broken for this process; replace the token host
 * - `setup`: an operator has to act; retrying changes nothing
 * - `capacity`: no session or memory is left for now
 */
export type FaultClass = "input" | "session" | "login" | "object" | "device" | "setup" | "capacity";

export type PinVerdict = "wrong" | "unspent" | "open";
