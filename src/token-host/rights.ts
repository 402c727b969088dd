// Tests what the login may do beyond the use of keys, with session objects only: they are removed again, and they end
// with their session. On some tokens a right over session objects says nothing about objects on the token.
import pkcs11js, { type Handle } from "pkcs11js";
import type { TestedRight } from "../hsm/port.js";
import { CKR_TABLE } from "./ckr-table.js";
import { type TokenFault } from "./ckr.js";
import type { Attempt, TokenSession } from "./session.js";

/** The standard's codes for an operation that this login may not perform; vendors also use codes of their own. */
const NOT_PERMITTED: ReadonlySet<number> = new Set([
  0x1b, // CKR_ACTION_PROHIBITED
  0x68, // CKR_KEY_FUNCTION_NOT_PERMITTED
  0x101, // CKR_USER_NOT_LOGGED_IN
  0xe2, // CKR_TOKEN_WRITE_PROTECTED
]);
const KEY_BYTES = 32;

/** Returns the outcome of each trial; an error is an outcome. */
export function testRights(session: TokenSession): readonly TestedRight[] {
  // A refused call replaces the session, and so ends its objects.
  return session.beside((own) => {
    const made = own.attempt("making a session key (C_GenerateKey)", (handle) =>
      session.lib.C_GenerateKey(handle, { mechanism: pkcs11js.CKM_GENERIC_SECRET_KEY_GEN }, [
        ...sessionKey(),
        { type: pkcs11js.CKA_VALUE_LEN, value: KEY_BYTES },
      ]),
    );
    // Its value is public, so it protects nothing.
    const imported = own.attempt("importing a session key (C_CreateObject)", (handle) =>
      session.lib.C_CreateObject(handle, [
        ...sessionKey(),
        { type: pkcs11js.CKA_VALUE, value: Buffer.alloc(KEY_BYTES, 0x5a) },
      ]),
    );
    const object = imported.ok ? imported : made;
    return [
      { right: "make keys", ...outcomeOf(made) },
      { right: "import keys", ...outcomeOf(imported) },
      { right: "destroy keys", ...destroyOutcome(own, object) },
    ];
  });
}

function destroyOutcome(session: TokenSession, object: Attempt<Handle>): Omit<TestedRight, "right"> {
  if (!object.ok) return { outcome: "untested", detail: "there is no session key to destroy" };
  return outcomeOf(
    session.attempt("destroying a session key (C_DestroyObject)", (handle) => {
      session.lib.C_DestroyObject(handle, object.value);
    }),
  );
}

function outcomeOf(attempt: Attempt<unknown>): Omit<TestedRight, "right"> {
  if (attempt.ok) return { outcome: "permitted", detail: "a trial with a session key succeeded" };
  return { outcome: isOfLogin(attempt.fault) ? "refused" : "untested", detail: attempt.fault.message };
}

function isOfLogin({ rv }: TokenFault): boolean {
  return rv !== undefined && (NOT_PERMITTED.has(rv) || !(rv in CKR_TABLE));
}

function sessionKey(): { type: number; value: number | boolean | string }[] {
  return [
    { type: pkcs11js.CKA_CLASS, value: pkcs11js.CKO_SECRET_KEY },
    { type: pkcs11js.CKA_KEY_TYPE, value: pkcs11js.CKK_GENERIC_SECRET },
    { type: pkcs11js.CKA_TOKEN, value: false },
    { type: pkcs11js.CKA_PRIVATE, value: true },
    { type: pkcs11js.CKA_SIGN, value: true },
    { type: pkcs11js.CKA_LABEL, value: "kms-pkcs11 trial" },
  ];
}
