// What the token host does for one row of the mechanism table. A performer writes and reads the body; it does not know
// the envelope around it.
import type { Kek } from "../kek.js";
import type { TokenSession } from "../session.js";

/** Encrypts and decrypts by one mechanism. */
export interface Performer {
  /** The plaintext is authenticated in this process, so that a result altered by the token is detected. */
  readonly opensHere?: true;
  /**
   * Returns the body: everything that decryption needs besides the KEK.
   * @throws TokenFault; MECHANISM_UNSUPPORTED if the key or token does not perform it
   */
  encrypt(session: TokenSession, kek: Kek, aad: Uint8Array, plaintext: Uint8Array): Buffer;
  /**
   * Returns the plaintext, which the caller zeroes.
   * @throws TokenFault with fault `input` when the body does not authenticate
   */
  decrypt(session: TokenSession, kek: Kek, aad: Uint8Array, body: Uint8Array): Buffer;
}
