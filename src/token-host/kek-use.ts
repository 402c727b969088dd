// Uses a generation of the KEK on one lane. Its handles may become invalid, or come to denote another object, whenever
// the token ends a session; the generation is then checked or searched for before a result is used.
import type { ErrorCode } from "../errors.js";
import type { TokenDescription } from "../hsm/port.js";
import { loggedOut, TokenFault } from "./ckr.js";
import { hasDiscovered, type Kek } from "./kek.js";
import type { LaneKeyring } from "./lane-keyring.js";
import type { TokenSession } from "./session.js";
import { denotes } from "./shared-kek.js";

/** The codes with which a KEK refuses a ciphertext of another KEK. */
const REFUSALS: ReadonlySet<ErrorCode> = new Set(["NOT_AUTHENTIC", "INPUT_INVALID", "MECHANISM_UNSUPPORTED"]);

/** The token in the slot. */
export interface SlotToken {
  readonly atOpening: TokenDescription;
  readonly now: () => TokenDescription;
}

/** Finds and uses generations for one lane. */
export class KekUse {
  readonly #session: TokenSession;
  readonly #keyring: LaneKeyring;
  readonly #token: SlotToken;

  constructor(session: TokenSession, keyring: LaneKeyring, token: SlotToken) {
    this.#session = session;
    this.#keyring = keyring;
    this.#token = token;
  }

  /**
   * Uses a generation; if its handle is invalid, or no longer denotes it, searches for the generation and tries once
   * more.
   */
  withKek<T>(keyId: string, use: (kek: Kek) => T): T {
    const known = this.#keyring.known(keyId);
    if (known !== undefined && this.#isUsable(known)) {
      try {
        const result = this.#useNamed(keyId, known, use);
        // If the token has ended the session, the operation was repeated, perhaps with another object.
        if (this.#isUsable(known)) return result;
        if (Buffer.isBuffer(result)) result.fill(0);
      } catch (error) {
        if (!(error instanceof TokenFault) || error.fault !== "object") throw error;
      }
    }
    const found = this.#keyring.find(keyId);
    if (found !== undefined) return this.#useNamed(keyId, found, use);
    // Without an error, a KEK disappears when the application is logged out.
    if (known !== undefined && this.#session.mayBeLoggedOut()) throw loggedOut();
    throw new TokenFault(`the token holds no KEK with key_id ${keyId}`, {
      fault: "object",
      code: "KEY_MISSING",
    });
  }

  /**
   * Decrypts under the generation that a stored ciphertext names: the one with that key_id, or the only one that may have
   * had it earlier. The associated data contain the stored key_id, so that another KEK refuses the ciphertext.
   * @throws TokenFault KEY_UNKNOWN if that only possible KEK refuses it
   */
  withKekToDecrypt<T>(keyId: string, decrypt: (kek: Kek) => T): T {
    const known = this.#keyring.presentKeyId(keyId);
    if (known !== undefined) return this.#withRenamedKek(keyId, known, decrypt);
    try {
      return this.withKek(keyId, decrypt);
    } catch (error) {
      // The search that has just failed may have found a KEK that had the key_id earlier.
      const found = isMissing(error) ? this.#keyring.presentKeyId(keyId) : undefined;
      if (found === undefined) throw error;
      return this.#withRenamedKek(keyId, found, decrypt);
    }
  }

  /** Decrypts under the KEK that may have had the key_id earlier. */
  #withRenamedKek<T>(keyId: string, presentKeyId: string, decrypt: (kek: Kek) => T): T {
    try {
      return this.withKek(presentKeyId, decrypt);
    } catch (error) {
      if (!(error instanceof TokenFault) || !REFUSALS.has(error.code)) throw error;
      const why = `KEK ${presentKeyId} has the same CKA_ID and does not decrypt it: ${error.finding}`;
      throw new TokenFault(`no KEK with key_id ${keyId} is on the token; ${why}`, {
        fault: "input",
        code: "KEY_UNKNOWN",
        cause: error,
      });
    }
  }

  /** Returns whether the handles of a KEK denote its keys, which is checked again after the token has ended a session. */
  #isUsable(kek: Kek): boolean {
    const { losses } = this.#session;
    if (kek.checkedAt === losses) return true;
    this.#requireSameToken();
    if (!denotes(this.#session, kek)) return false;
    kek.checkedAt = losses;
    return true;
  }

  /**
   * Requires that the slot still holds the token that was opened: what is known about that token does not apply to
   * another.
   * @throws TokenFault `device`
   */
  #requireSameToken(): void {
    const now = this.#token.now();
    const fields = ["label", "serial", "manufacturer", "model"] as const;
    if (fields.every((field) => now[field] === this.#token.atOpening[field])) return;
    throw new TokenFault(`another token is in the slot now: "${now.label}"`, {
      fault: "device",
      code: "HSM_UNAVAILABLE",
    });
  }

  #useNamed<T>(keyId: string, kek: Kek, use: (kek: Kek) => T): T {
    const wasDiscovered = hasDiscovered(kek);
    try {
      return use(kek);
    } catch (error) {
      throw withKeyId(keyId, error);
    } finally {
      if (!wasDiscovered && hasDiscovered(kek)) this.#keyring.share(kek);
    }
  }
}

function isMissing(error: unknown): boolean {
  return error instanceof TokenFault && error.code === "KEY_MISSING";
}

/** Returns the same fault with the key_id in its message. */
export function withKeyId(keyId: string, error: unknown): unknown {
  if (!(error instanceof TokenFault) || error.message.includes(keyId)) return error;
  return new TokenFault(`${error.finding} (key_id ${keyId})`, {
    advice: error.advice,
    fault: error.fault,
    code: error.code,
    rv: error.rv,
    cause: error,
  });
}
