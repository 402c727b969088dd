// Calls that a working token may refuse: a mechanism that it lacks, a use that a key does not permit. An error that
// says the token is away or logged out is not a refusal.
import pkcs11js, { type Handle } from "pkcs11js";
import { isGeneralError, type TokenFault } from "./ckr.js";
import type { Attempt, TokenSession } from "./session.js";

/** Number of attempts: a refusal recurs, a temporary error does not. */
const ATTEMPTS = 3;

/** Returns whether a fault may concern the mechanism or the key, rather than the token or the session. */
export function isRefusal(fault: TokenFault): boolean {
  return fault.fault === "setup" || fault.fault === "input" || isGeneralError(fault);
}

/**
 * Returns whether a fault may be a refusal while a mechanism is tested: a vendor's own code may refuse a parameter or
 * report a broken device.
 */
export function mayBeRefusal(fault: TokenFault): boolean {
  return isRefusal(fault) || (fault.rv !== undefined && fault.rv >= 0x80000000);
}

/**
 * Returns whether a fault may be a refusal if the caller decides by other calls whether the token still answers: some
 * tokens refuse with a code that otherwise reports a broken device.
 */
export function mayRefuseAsBroken(fault: TokenFault): boolean {
  return isRefusal(fault) || fault.fault === "device";
}

/** Makes a call, and repeats it after a general error, which may be a refusal or temporary. Throws nothing. */
export function tryCall<T>(session: TokenSession, doing: string, call: (handle: Handle) => T): Attempt<T> {
  for (let attempts = 1; ; attempts++) {
    const out = session.attempt(doing, call);
    if (out.ok || !isGeneralError(out.fault) || attempts === ATTEMPTS) return out;
  }
}

/**
 * Encrypts one AES block, by CBC with a zero IV or by ECB, which compute the same.
 * @returns the token's output, whose length the caller checks; or the faults if the token refuses both
 * @throws TokenFault when the token is logged out, or has no session or key
 */
export function aesBlock(
  session: TokenSession,
  key: Handle,
  block: Buffer,
  doing: string,
): Buffer | readonly TokenFault[] {
  const refusals: TokenFault[] = [];
  for (const mechanism of [
    { mechanism: pkcs11js.CKM_AES_CBC, parameter: Buffer.alloc(block.length) },
    { mechanism: pkcs11js.CKM_AES_ECB },
  ]) {
    const out = tryCall(session, doing, (handle) =>
      session.timed(() => {
        session.lib.C_EncryptInit(handle, mechanism, key);
        return Buffer.from(session.lib.C_Encrypt(handle, block, Buffer.alloc(4 * block.length)));
      }),
    );
    if (out.ok) return out.value;
    if (!mayRefuseAsBroken(out.fault)) throw out.fault;
    refusals.push(out.fault);
  }
  return refusals;
}
