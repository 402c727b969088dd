// The public key objects beside the private keys of a KEK. Nothing reads them, since some tokens let anybody make one
// without a login; the public key is an attribute of the private key. They are relabelled and destroyed with the
// private keys, so that none is left behind.
import pkcs11js, { type Handle } from "pkcs11js";
import type { Kek, RsaKey } from "./kek.js";
import { removeObjects } from "./remove-objects.js";
import type { TokenSession } from "./session.js";

/**
 * Destroys the public key objects of a KEK whose private keys were destroyed; ignores failures, since they hold no
 * secret.
 */
export function destroyPublicKeys(session: TokenSession, kek: Kek): void {
  removeObjects(session, publicKeys(session, kek), "destroying a public key (C_DestroyObject)");
}

/** Gives the public key objects of a KEK another label; ignores failures, since they do not name the KEK. */
export function relabelPublicKeys(session: TokenSession, kek: Kek, label: string): void {
  for (const object of publicKeys(session, kek)) {
    session.attempt("changing a label (C_SetAttributeValue)", (handle) => {
      session.lib.C_SetAttributeValue(handle, object, [{ type: pkcs11js.CKA_LABEL, value: label }]);
    });
  }
}

function publicKeys(session: TokenSession, { decrypts, signs }: Kek): Handle[] {
  return [decrypts, signs].flatMap((key) => (key === undefined ? [] : publicKeysOf(session, key)));
}

/** Returns none if the token does not search by these attributes. */
function publicKeysOf(session: TokenSession, { label, modulus }: RsaKey): Handle[] {
  const found = session.attempt("searching for public keys (C_FindObjects)", (handle) => {
    session.lib.C_FindObjectsInit(handle, [
      { type: pkcs11js.CKA_CLASS, value: pkcs11js.CKO_PUBLIC_KEY },
      { type: pkcs11js.CKA_TOKEN, value: true },
      { type: pkcs11js.CKA_LABEL, value: label },
      { type: pkcs11js.CKA_MODULUS, value: modulus },
    ]);
    const objects = session.lib.C_FindObjects(handle, 10);
    session.lib.C_FindObjectsFinal(handle);
    return objects;
  });
  return found.ok ? found.value : [];
}
