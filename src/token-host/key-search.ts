// Searches for key objects on the token: secret keys, and private keys, among which are those of an RSA KEK. PKCS#11
// v2.40 section 5.7 (C_FindObjects).
import pkcs11js, { type Attribute, type Handle } from "pkcs11js";
import { rvOf, TokenFault } from "./ckr.js";
import type { TokenSession } from "./session.js";

/** Large, since every batch is a round trip; its handles take 64 KiB. */
const FIND_BATCH = 8_192;
/**
 * SoftHSM 2.6.1 lets other processes find a key that is being made, and gives it default attributes when they read any:
 * the maker's own are then lost, including the value. CKA_TOKEN is set only once all attributes are complete.
 */
const ON_TOKEN: Attribute = { type: pkcs11js.CKA_TOKEN, value: true };
const CKR_OPERATION_NOT_INITIALIZED = 0x91;
/** An object that a search returned. */
export interface Listed {
  readonly handle: Handle;
  readonly isPrivateKey: boolean;
}

/**
 * Returns all secret and private keys on the token; in a narrower search, private keys only if there is no secret key.
 */
export function findKeys(session: TokenSession, narrower: readonly Attribute[]): Listed[] {
  const secret = findOfClass(session, pkcs11js.CKO_SECRET_KEY, narrower);
  const listed = secret.map((handle) => ({ handle, isPrivateKey: false }));
  return narrower.length > 0 && secret.length > 0
    ? listed
    : [...listed, ...findPrivateKeys(session, narrower)];
}

/** Returns all private keys; none if the token refuses to search for them. */
export function findPrivateKeys(session: TokenSession, narrower: readonly Attribute[]): Listed[] {
  try {
    const found = findOfClass(session, pkcs11js.CKO_PRIVATE_KEY, narrower);
    return found.map((handle) => ({ handle, isPrivateKey: true }));
  } catch (error) {
    if (error instanceof TokenFault && error.fault === "setup") return [];
    throw error;
  }
}

function findOfClass(session: TokenSession, value: number, narrower: readonly Attribute[]): Handle[] {
  const ofClass: Attribute = { type: pkcs11js.CKA_CLASS, value };
  try {
    return findAll(session, [ofClass, ON_TOKEN, ...narrower]);
  } catch (error) {
    // Some tokens do not search by CKA_TOKEN; the reader then leaves out the objects of sessions.
    if (error instanceof TokenFault && error.fault === "setup") {
      return findAll(session, [ofClass, ...narrower]);
    }
    throw error;
  }
}

function findAll(session: TokenSession, template: readonly Attribute[]): Handle[] {
  const { lib } = session;
  return session.run("searching for keys (C_FindObjects)", (handle) => {
    lib.C_FindObjectsInit(handle, [...template]);
    // By number, in case a token returns an object twice.
    const objects = new Map<bigint, Handle>();
    for (;;) {
      const batch = lib.C_FindObjects(handle, FIND_BATCH);
      if (batch.length === 0) break;
      for (const object of batch) objects.set(numberOf(object), object);
    }
    endSearch(session, handle);
    return [...objects.values()];
  });
}

/** Returns the number of an object handle, which identifies it. */
export function numberOf(handle: Handle): bigint {
  return handle.readBigUInt64LE(0);
}

/** Ends a search. Some tokens end it themselves once they have returned the last object. */
export function endSearch({ lib }: TokenSession, handle: Handle): void {
  try {
    lib.C_FindObjectsFinal(handle);
  } catch (error) {
    if (rvOf(error) !== CKR_OPERATION_NOT_INITIALIZED) throw error;
  }
}
