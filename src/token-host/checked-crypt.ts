// Encrypt and Decrypt under a KEK, checked before the answer leaves the token host. A token, or the memory and network
// before it, may alter a bit of a result and return CKR_OK. kube-apiserver encrypts everything it writes under one
// seed, so a ciphertext that cannot be decrypted again would lose everything it wrote; a wrong seed would stay in its
// cache for a day. A request with an altered result, or with an error that may be temporary, is tried again on another
// session.
import { createHash, timingSafeEqual } from "node:crypto";
import { mechanismById, type Mechanism } from "../hsm/mechanisms.js";
import type { CryptRequest } from "../hsm/port.js";
import { AlteredResult, isGeneralError, encryptFault, TokenFault } from "./ckr.js";
import type { Kek } from "./kek.js";
import { PERFORMERS } from "./mechanisms/table.js";
import type { TokenSession } from "./session.js";

const CANARY_TEXT = Buffer.from("kms-pkcs11 canary");
const CANARY_AAD = Buffer.from("kms-pkcs11 canary");
const DIGEST_LABEL = "kms-pkcs11 plaintext v1";
/** Guards against accidents only: deliberate changes fail the ciphertext's authentication. */
const DIGEST_BYTES = 8;
const TRIES = 2;
const CKR_DEVICE_ERROR = 0x30;
/** Attempts at a call whose error may be a refusal or temporary. */
const TRIES_IF_UNCLEAR = 3;

interface Work {
  readonly kek: Kek;
  readonly mechanism: Mechanism;
  readonly request: CryptRequest;
}

/** Encrypts and decrypts on one session, and verifies every result. */
export class CheckedCrypt {
  readonly #session: TokenSession;
  #corrected = 0;

  constructor(session: TokenSession) {
    this.#session = session;
  }

  /** Number of altered results that a second attempt corrected. */
  get corrected(): number {
    return this.#corrected;
  }

  /**
   * Returns a body that separate calls have decrypted to the plaintext.
   * @throws TokenFault; AlteredResult when the second body does not decrypt either
   */
  encrypt(kek: Kek, request: CryptRequest): Buffer {
    const work = { kek, mechanism: mechanismOf(request), request };
    const text = request.check === "digest" ? withDigest(request.data) : Buffer.from(request.data);
    try {
      return this.#repeat(
        () => this.#encryptOnce(work, text),
        (fault) => fault instanceof AlteredResult && TRIES,
      );
    } finally {
      text.fill(0);
    }
  }

  /**
   * Returns the plaintext, which the caller zeroes.
   * @throws TokenFault with fault `input` when repeated attempts do not decrypt the body; AlteredResult
   */
  decrypt(kek: Kek, request: CryptRequest): Buffer {
    const work = { kek, mechanism: mechanismOf(request), request };
    const { name, kinds } = work.mechanism;
    if (!kinds.includes(kek.record.kind)) {
      const text = `the ciphertext names ${name}, which no KEK of kind ${kek.record.kind} performs; it was changed`;
      throw new TokenFault(text, { fault: "input", code: "INPUT_INVALID" });
    }
    let proven = false;
    return this.#repeat(
      () => this.#decryptOnce(work),
      (fault) => {
        if (!mayMeanTampering(fault)) {
          return (fault instanceof AlteredResult || fault.code === "NOT_AUTHENTIC") && TRIES;
        }
        if (!proven) this.#prove(work, fault);
        proven = true;
        return TRIES_IF_UNCLEAR;
      },
    );
  }

  /**
   * Makes a call until it succeeds or has used up its attempts.
   * @param triesFor returns the total number of attempts that a fault justifies; false to throw it unchanged
   */
  #repeat(once: () => Buffer, triesFor: (fault: TokenFault) => number | false): Buffer {
    let altered = false;
    for (let tries = 1; ; tries++) {
      try {
        const result = once();
        if (altered) this.#corrected++;
        return result;
      } catch (error) {
        if (!(error instanceof TokenFault)) throw error;
        const most = triesFor(error);
        if (most === false) throw error;
        if (tries >= most) throw mayMeanTampering(error) ? notAuthentic(error) : error;
        altered ||= !mayMeanTampering(error);
        if (error.rv === undefined) this.#session.renew();
      }
    }
  }

  #encryptOnce({ kek, mechanism, request }: Work, text: Buffer): Buffer {
    const performer = PERFORMERS[mechanism.name];
    let body: Buffer;
    try {
      body = performer.encrypt(this.#session, kek, request.aad, text);
    } catch (error) {
      throw encryptFault(error);
    }
    const wrong = `the token's ${mechanism.name} ciphertext does not decrypt to what was encrypted`;
    let opened: Buffer;
    try {
      opened = performer.decrypt(this.#session, kek, request.aad, body);
    } catch (error) {
      const refused = error instanceof TokenFault && (error.fault === "input" || isGeneralError(error));
      throw refused ? new AlteredResult(wrong, error) : error;
    }
    if (isSame(opened, text)) return body;
    throw new AlteredResult(wrong);
  }

  #decryptOnce({ kek, mechanism, request }: Work): Buffer {
    const performer = PERFORMERS[mechanism.name];
    const open = (): Buffer => performer.decrypt(this.#session, kek, request.aad, request.data);
    const opened = open();
    const wrong = `the token's plaintext of a ${mechanism.name} ciphertext is not what was encrypted`;
    if (request.check === "digest") {
      const text = withoutDigest(opened);
      if (text === undefined) throw new AlteredResult(wrong);
      return text;
    }
    if (request.check === undefined || performer.opensHere === true || isSame(open(), opened)) return opened;
    opened.fill(0);
    throw new AlteredResult(wrong);
  }

  /**
   * Decides by a canary, a round trip of the lane's own, whether a code means bad input or a broken token.
   * @throws TokenFault `device` when the token cannot decrypt what it has just encrypted itself
   */
  #prove({ kek, mechanism }: Work, cause: TokenFault): void {
    const performer = PERFORMERS[mechanism.name];
    try {
      const body = performer.encrypt(this.#session, kek, CANARY_AAD, CANARY_TEXT);
      if (performer.decrypt(this.#session, kek, CANARY_AAD, body).equals(CANARY_TEXT)) return;
    } catch (error) {
      // A key that may only decrypt cannot encrypt a canary; the input is more likely at fault.
      if (error instanceof TokenFault && error.fault === "setup") return;
      throw error;
    }
    throw new AlteredResult("the token's round trip returned a different text", cause);
  }
}

/** Kryoptic 1.5.4 refuses a tampered AES-KWP ciphertext with CKR_DEVICE_ERROR. */
function mayMeanTampering(fault: TokenFault): boolean {
  return isGeneralError(fault) || fault.rv === CKR_DEVICE_ERROR;
}

function mechanismOf({ mechanism: id }: CryptRequest): Mechanism {
  const mechanism = mechanismById(id);
  if (mechanism !== undefined) return mechanism;
  throw new TokenFault(`mechanism ${id} is not in the table`, { fault: "input", code: "INPUT_INVALID" });
}

function notAuthentic(cause: TokenFault): TokenFault {
  const text = "the ciphertext does not authenticate under this KEK";
  return new TokenFault(text, { fault: "input", code: "NOT_AUTHENTIC", cause });
}

/** Compares in constant time and wipes the first argument. */
function isSame(opened: Buffer, expected: Uint8Array): boolean {
  try {
    return opened.length === expected.length && timingSafeEqual(opened, expected);
  } finally {
    opened.fill(0);
  }
}

function digestOf(plaintext: Uint8Array): Buffer {
  return createHash("sha256").update(DIGEST_LABEL).update(plaintext).digest().subarray(0, DIGEST_BYTES);
}

function withDigest(plaintext: Uint8Array): Buffer {
  return Buffer.concat([digestOf(plaintext), plaintext]);
}

/** Returns the plaintext, or undefined if its digest does not match. Wipes its input. */
function withoutDigest(opened: Buffer): Buffer | undefined {
  const text = Buffer.from(opened.subarray(DIGEST_BYTES));
  const same = text.length > 0 && timingSafeEqual(digestOf(text), opened.subarray(0, DIGEST_BYTES));
  opened.fill(0);
  if (same) return text;
  text.fill(0);
  return undefined;
}
