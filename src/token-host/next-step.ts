// What an operator can do about a failed PKCS#11 call: the end of its message. Never advises `check`, which shows these
// messages itself.
import type { ErrorCode } from "../errors.js";
import type { FaultClass } from "../hsm/fault.js";

const NEXT_STEP: Readonly<Record<Exclude<FaultClass, "setup">, string>> = {
  input: "the data was not made under this key or was changed",
  session: "the session was replaced; try again",
  login: "the token logged the plugin out; it logs in again",
  object: "the KEK is not on the token; restore it, or check whether it was destroyed",
  device: "the HSM or its module is failing; check the log of the HSM's client",
  capacity: "the token has no session or memory left; close other clients or lower hsm.sessions",
};

/** The remedy depends on the PIN's source, which the token host does not know. */
const PIN_NEXT_STEP = "this PIN is not tried again, since repeated wrong PINs lock tokens";

/** Refused logins that do not mean a wrong PIN: once the token is repaired, the same PIN may be right. */
const LOGIN_NEXT_STEP: Readonly<Record<number, string>> = {
  0xa3: "the PIN has expired; set a new one on the token and put it into the PIN's source",
  0xa4: "the token is locked; its security officer must reset the PIN",
  0x103: "the token does not know this role; correct login.role or admin.role",
  0x104: "another role is logged in already in this process",
  0x102: "the token's security officer has to set a user PIN first",
};

/** For a mechanism that was requested. */
export const SET_ANOTHER_MECHANISM = "set another mechanism, or auto";

/** Next steps for the fault class `setup`, whose error codes say more than the class. */
const SETUP_NEXT_STEP: Partial<Record<ErrorCode, string>> = {
  PIN_REFUSED: PIN_NEXT_STEP,
  MECHANISM_UNSUPPORTED: `the token does not perform this; ${SET_ANOTHER_MECHANISM}`,
  KEY_UNSUITABLE: "the key does not permit this; make another one with 'kms-pkcs11 keys rotate'",
};
const REFUSED_NEXT_STEP = "the token does not permit this; check its policy and the rights of this login";

/** Returns what an operator can do about a CK_RV of a fault class and error code. */
export function nextStep(
  rv: number,
  { fault, code }: { readonly fault: FaultClass; readonly code: ErrorCode },
): string {
  if (fault !== "setup") return NEXT_STEP[fault];
  return LOGIN_NEXT_STEP[rv] ?? SETUP_NEXT_STEP[code] ?? REFUSED_NEXT_STEP;
}

/** Refused changes of a PIN. */
const SET_PIN_NEXT_STEP: Readonly<Record<number, string>> = {
  0x54: "its library cannot change PINs: change the PIN with the vendor's tool, then run custody split --replace",
  0xa1: "if it accepts digits only, give --digits",
  0xa2: "it accepts other lengths than it reports; give --length",
  0x1b8: "give a greater --length",
};
const SET_PIN_REFUSED = "change it with the vendor's tool, then run custody split --replace";

/** Returns what an operator can do about a CK_RV with which the token refused to change its PIN. */
export function nextStepOfSetPin(rv: number): string {
  return SET_PIN_NEXT_STEP[rv] ?? SET_PIN_REFUSED;
}
