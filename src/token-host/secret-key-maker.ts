// Makes a secret key inside the HSM, with every use that it does not need explicitly false (some tokens default them to
// true). PKCS#11 v2.40 sections 4.9, 5.13.
import pkcs11js, { type Attribute, type Handle } from "pkcs11js";
import { asNumber } from "./attributes.js";
import { hexOf, rowOf } from "./ckr-table.js";
import { TokenFault } from "./ckr.js";
import { CKK_SHA256_HMAC } from "./kek.js";
import { removeObjects } from "./remove-objects.js";
import { KEY_BYTES, templates, type WantedKey } from "./secret-key-template.js";
import type { Attempt, TokenSession } from "./session.js";

/** A kind of secret key. */
export type SecretKind = "aes" | "hmac";

/** Returns the values of CKA_KEY_TYPE for a kind of secret key, in order of preference. */
export function keyTypesOf(kind: SecretKind): readonly number[] {
  return kind === "aes" ? [pkcs11js.CKK_AES] : [pkcs11js.CKK_GENERIC_SECRET, CKK_SHA256_HMAC];
}

/** Makes a secret key from one template. Throws nothing. */
export function generateKey(
  session: TokenSession,
  kind: SecretKind,
  template: readonly Attribute[],
): Attempt<Handle> {
  const mechanism = {
    mechanism: kind === "aes" ? pkcs11js.CKM_AES_KEY_GEN : pkcs11js.CKM_GENERIC_SECRET_KEY_GEN,
  };
  return session.attempt("making a key (C_GenerateKey)", (handle) =>
    session.lib.C_GenerateKey(handle, mechanism, [...template]),
  );
}

/**
 * Makes a secret key: tries the full template first, then templates without attributes that some tokens refuse.
 * @throws TokenFault GENERATION_UNSUPPORTED when the token lacks the function or the mechanism for it
 */
export function makeSecretKey(
  session: TokenSession,
  kind: SecretKind,
  wraps: boolean,
  wanted: WantedKey,
): Handle {
  let refusal: TokenFault | undefined;
  for (const keyType of keyTypesOf(kind)) {
    for (const template of templates(kind, keyType, wraps, wanted)) {
      const made = generateKey(session, kind, template);
      if (made.ok) return requireLength(session, made.value, wanted);
      if (made.fault.fault !== "setup") throw made.fault;
      refusal ??= made.fault;
      // No template helps against a refused mechanism.
      if (made.fault.code === "MECHANISM_UNSUPPORTED") break;
    }
  }
  refusal ??= new TokenFault("the token makes no such key", { fault: "setup", code: "TOKEN_REFUSED" });
  throw refusal.code === "MECHANISM_UNSUPPORTED" ? notGenerated(refusal) : refusal;
}

function notGenerated(cause: TokenFault): TokenFault {
  const rv = cause.rv ?? 0;
  return new TokenFault(`C_GenerateKey: ${rowOf(rv).name} (${hexOf(rv)})`, {
    fault: "setup",
    code: "GENERATION_UNSUPPORTED",
    rv,
    cause,
  });
}

/** Refuses a key of the wrong length, which a token that refuses CKA_VALUE_LEN may make. */
function requireLength(session: TokenSession, key: Handle, { onToken }: WantedKey): Handle {
  const read = session.attempt("reading the length of a key (C_GetAttributeValue)", (handle) =>
    session.lib.C_GetAttributeValue(handle, key, [{ type: pkcs11js.CKA_VALUE_LEN }]),
  );
  const value = read.ok ? read.value[0]?.value : undefined;
  const bytes = asNumber(Buffer.isBuffer(value) ? value : undefined);
  if (bytes === undefined || bytes === KEY_BYTES) return key;
  if (onToken) removeObjects(session, [key], "removing a key of another length (C_DestroyObject)");
  const text = `the token makes keys of ${8 * bytes} bits, not ${8 * KEY_BYTES}`;
  throw new TokenFault(text, { fault: "setup", code: "TOKEN_REFUSED" });
}
