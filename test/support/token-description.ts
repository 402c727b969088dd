// What a token host reports of a token, for tests without one.

import type { TokenDescription } from "../../src/hsm/port.js";

/** Returns the description of a token that requires a login and has no special flag, apart from what is given. */
export function tokenDescription(special: Partial<TokenDescription>): TokenDescription {
  return {
    label: "",
    serial: "",
    manufacturer: "",
    model: "",
    slotId: 0,
    loginRequired: true,
    loggedIn: false,
    pinCountLow: false,
    pinFinalTry: false,
    pinLocked: false,
    protectedAuthenticationPath: false,
    library: "",
    ...special,
  };
}
