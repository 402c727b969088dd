// The faults of the token host: a failed PKCS#11 call, or a finding, with what the plugin has to do about it. ckr-table.ts
// has the meaning of each return value.
import type { ErrorCode } from "../errors.js";
import type { FaultClass, PinVerdict } from "../hsm/fault.js";
import { CKR_TABLE, hexOf, rowOf } from "./ckr-table.js";
import { nextStep, nextStepOfSetPin } from "./next-step.js";

/** CKR_GENERAL_ERROR, CKR_FUNCTION_FAILED, CKR_ARGUMENTS_BAD: a refusal on some tokens, a temporary error on others. */
const GENERAL_ERRORS: ReadonlySet<number> = new Set([0x05, 0x06, 0x07]);

/** CKR_PIN_INCORRECT, CKR_PIN_INVALID, CKR_PIN_LEN_RANGE. */
const WRONG_PIN: ReadonlySet<number> = new Set([0xa0, 0xa1, 0xa2]);

/** Returns what a failed C_Login says about the PIN. A general error or a vendor's own code may mean a wrong one. */
export function pinVerdict({ rv }: TokenFault): PinVerdict {
  if (rv === undefined || GENERAL_ERRORS.has(rv) || !(rv in CKR_TABLE)) return "unknown";
  return WRONG_PIN.has(rv) ? "wrong" : "unspent";
}

/** The classification of a fault. */
export interface TokenFaultOptions {
  readonly fault: FaultClass;
  readonly code: ErrorCode;
  /** The CK_RV, if a call returned one. */
  readonly rv?: number | undefined;
  readonly cause?: unknown;
  /** What to do about it: the end of the message. */
  readonly advice?: string | undefined;
}

/** A failed PKCS#11 call, or a finding of the token host, with what the plugin has to do about it. */
export class TokenFault extends Error {
  readonly fault: FaultClass;
  readonly code: ErrorCode;
  /** The CK_RV, if a call returned one. */
  readonly rv: number | undefined;
  readonly advice: string | undefined;
  /** The message without the advice, for a message that quotes it. */
  readonly finding: string;

  constructor(finding: string, { fault, code, rv, cause, advice }: TokenFaultOptions) {
    super(advice === undefined ? finding : `${finding}; ${advice}`, { cause });
    this.name = "TokenFault";
    this.finding = finding;
    this.advice = advice;
    this.fault = fault;
    this.code = code;
    this.rv = rv;
  }
}

/**
 * A wrong result of a call that returned CKR_OK: the token, or the path to it, altered the result. The call is repeated
 * once on another session; a second altered result means that this process or its token is broken.
 */
export class AlteredResult extends TokenFault {
  constructor(message: string, cause?: unknown) {
    super(message, { fault: "device", code: "HSM_UNAVAILABLE", cause });
    this.name = "AlteredResult";
  }
}

/** Returns the fault of a session that turns out to be logged out. */
export function loggedOut(): TokenFault {
  return new TokenFault("the token host is logged out of the token", {
    fault: "login",
    code: "SESSION_LOST",
  });
}

/** Returns the CK_RV of a pkcs11js error, or undefined if it has none. */
export function rvOf(error: unknown): number | undefined {
  if (!(error instanceof Error)) return undefined;
  const code = (error as { code?: unknown }).code;
  if (typeof code === "number" && code !== 0) return code;
  // C_CreateObject, C_CopyObject and C_SetAttributeValue throw a bare Error "CKR_X:19" (pkcs11js 2.1.7).
  const digits = /\bCKR_\w+:(\d+)/.exec(error.message)?.[1];
  return digits === undefined ? undefined : Number(digits);
}

/** Returns whether the code may mean tampered input, a refusal or a broken token. */
export function isGeneralError(error: unknown): boolean {
  return error instanceof TokenFault && error.rv !== undefined && GENERAL_ERRORS.has(error.rv);
}

/** Returns the fault of a failed encryption: there the codes for bad input concern the plaintext. */
export function encryptFault(error: unknown): unknown {
  if (!(error instanceof TokenFault) || error.fault !== "input" || error.rv === undefined) return error;
  const { name } = rowOf(error.rv);
  const message = `encrypting: ${name} (${hexOf(error.rv)}); the token does not accept this plaintext`;
  return new TokenFault(message, { fault: "input", code: "INPUT_INVALID", rv: error.rv, cause: error });
}

/** Returns the fault of a failed change of the PIN: there the codes for a wrong PIN concern the new one. */
export function setPinFault(error: unknown): TokenFault {
  const doing = "changing the PIN (C_SetPIN)";
  const fault = toFault(error, doing);
  const { rv } = fault;
  if (fault.fault !== "setup" || rv === undefined) return fault;
  return new TokenFault(`${doing}: ${rowOf(rv).name} (${hexOf(rv)})`, {
    advice: nextStepOfSetPin(rv),
    fault: "setup",
    code: "TOKEN_REFUSED",
    rv,
    cause: error,
  });
}

/** Returns the TokenFault for an error. @param doing the operation, such as "encrypting (C_EncryptInit, C_Encrypt)" */
export function toFault(error: unknown, doing: string): TokenFault {
  if (error instanceof TokenFault) return error;
  const rv = rvOf(error);
  if (rv === undefined) {
    return new TokenFault(`${doing} failed inside the token host`, {
      fault: "device",
      code: "INTERNAL",
      cause: error,
    });
  }
  const row = rowOf(rv);
  return new TokenFault(`${doing}: ${row.name} (${hexOf(rv)})`, {
    advice: nextStep(rv, row),
    fault: row.fault,
    code: row.code,
    rv,
    cause: error,
  });
}
