// Gives a key another CKA_LABEL, where the token allows it: in place, or by a copy that replaces it
// (C_CopyObject keeps the value inside the token). PKCS#11 v2.40 section 5.7.
import pkcs11js, { type Handle } from "pkcs11js";
import type { Kek } from "./kek.js";
import type { TokenSession } from "./session.js";

/**
 * @throws TokenFault where the label can be changed neither way; the key is as it was then, unless the token does not
 * take that back either
 */
export function relabel(session: TokenSession, kek: Kek, label: string): void {
  const renamed: Handle[] = [];
  try {
    for (const object of [kek.aes, kek.hmac]) {
      if (object !== undefined) renamed.push(relabelOne(session, object, label));
    }
  } catch (error) {
    // Half a pair under each label would be two other KEKs.
    for (const object of renamed) relabelOne(session, object, kek.record.label);
    throw error;
  }
}

/** Returns the handle of the key under its new label. */
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
