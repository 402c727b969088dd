// What a row of the mechanism table does in the token host. A performer lays out and reads the body; what
// surrounds it in an envelope it does not know.
import type { Kek } from "../kek.js";
import type { TokenSession } from "../session.js";

export interface Performer {
  /** The plaintext is authenticated in this process: what the token alters shows at once. */
  readonly opensHere?: true;
  /**
   * Returns the body: everything but the plaintext's key that is needed to decrypt it.
   * @throws TokenFault; MECHANISM_UNSUPPORTED where key or token do not perform it
   */
  encrypt(session: TokenSession, kek: Kek, aad: Uint8Array, plaintext: Uint8Array): Buffer;
  /**
   * Returns the plaintext, which the caller zeroes.
   * @throws TokenFault with fault `input` when the body does not authenticate
   */
  decrypt(session: TokenSession, kek: Kek, aad: Uint8Array, body: Uint8Array): Buffer;
}
