// Calls that a token may refuse without anything being wrong with it: a mechanism it lacks, a use that a key
// does not allow. Only being away or logged out is no refusal.
import pkcs11js, { type Handle } from "pkcs11js";
import { isGeneralError, type TokenFault } from "./ckr.js";
import type { Attempt, TokenSession } from "./session.js";

/** A refusal is the same every time, trouble passes. */
const TRIES = 3;

/** Whether the fault says something of the mechanism or the key, and not of the token or the session. */
export function isRefusal(fault: TokenFault): boolean {
  return fault.fault === "setup" || fault.fault === "input" || isGeneralError(fault);
}

/** The same for a trial: a vendor's own number may refuse a parameter as well as report a broken device. */
export function mayBeRefusal(fault: TokenFault): boolean {
  return isRefusal(fault) || (fault.rv !== undefined && fault.rv >= 0x80000000);
}

/** Makes the call, again where a general error leaves open whether it is refused. Throws nothing. */
export function tryCall<T>(session: TokenSession, doing: string, call: (handle: Handle) => T): Attempt<T> {
  for (let tries = 1; ; tries++) {
    const out = session.attempt(doing, call);
    if (out.ok || !isGeneralError(out.fault) || tries === TRIES) return out;
  }
}

/**
 * AES of one block under this key, by CBC with a zero IV or by ECB, which compute the same.
 * @returns the faults where the token refuses both
 * @throws TokenFault when the token is away or logged out
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
    const out = tryCall(session, doing, (handle) => {
      session.lib.C_EncryptInit(handle, mechanism, key);
      return Buffer.from(session.lib.C_Encrypt(handle, block, Buffer.alloc(4 * block.length)));
    });
    if (out.ok && out.value.length === block.length) return out.value;
    if (out.ok) continue;
    if (!isRefusal(out.fault)) throw out.fault;
    refusals.push(out.fault);
  }
  return refusals;
}
