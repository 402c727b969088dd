// Changes a key's CKA_LABEL if the token permits it: in place, or by a copy that replaces the key (C_CopyObject keeps
// the value inside the token). PKCS#11 v2.40 section 5.7.
import pkcs11js, { type Handle } from "pkcs11js";
import { namesValue } from "../hsm/key-id.js";
import { TokenFault } from "./ckr.js";
import { destroyObjects } from "./destroyer.js";
import { keysOf, type Kek } from "./kek.js";
import { relabelPublicKeys } from "./rsa-public-objects.js";
import type { TokenSession } from "./session.js";

/**
 * Changes the label of a KEK's keys.
 * @throws TokenFault when neither method works; the key then keeps its label, unless the token also refuses to restore
 * it
 */
export function relabel(session: TokenSession, kek: Kek, label: string): void {
  const renamed: Handle[] = [];
  try {
    for (const object of keysOf(kek)) renamed.push(relabelOne(session, object, label));
  } catch (error) {
    // A pair with different labels would be listed as two other KEKs.
    for (const object of renamed) relabelOne(session, object, kek.record.label);
    throw error;
  }
  relabelPublicKeys(session, kek, label);
}

/**
 * Completes a relabelling that was interrupted between copy and destruction: destroys the originals of a KEK if a copy
 * of it carries the label already. Returns whether it does.
 * @param copies all KEKs on the token with one key_id, as just read
 * @throws TokenFault TOKEN_REFUSED when nothing shows that they have one value
 */
export function finishRelabel(session: TokenSession, copies: readonly Kek[], label: string): boolean {
  const originals = copies.filter(({ record }) => record.label !== label);
  const [original] = originals;
  if (originals.length === copies.length) return false;
  if (original === undefined) return true;
  const { keyId, label: oldLabel } = original.record;
  if (!namesValue(keyId)) {
    throw new TokenFault(
      `the token holds ${keyId} as "${oldLabel}" and as "${label}", and computes no fingerprint that shows whether they have ` +
        "one value; remove the unneeded one with the vendor's tool",
      { fault: "setup", code: "TOKEN_REFUSED" },
    );
  }
  destroyObjects(session, originals, { keyIds: [keyId] });
  return true;
}

/** Returns the handle of the relabelled key. */
function relabelOne(session: TokenSession, object: Handle, label: string): Handle {
  const template = [{ type: pkcs11js.CKA_LABEL, value: label }];
  const inPlace = session.attempt("changing a label (C_SetAttributeValue)", (handle) => {
    session.lib.C_SetAttributeValue(handle, object, template);
  });
  if (inPlace.ok) return object;
  if (inPlace.fault.fault !== "setup") throw inPlace.fault;
  const copied = session.attempt("copying a key (C_CopyObject)", (handle) =>
    session.lib.C_CopyObject(handle, object, [...template, { type: pkcs11js.CKA_TOKEN, value: true }]),
  );
  if (!copied.ok) throw inPlace.fault;
  session.run("removing the key under its old label (C_DestroyObject)", (handle) => {
    session.lib.C_DestroyObject(handle, object);
  });
  return copied.value;
}
