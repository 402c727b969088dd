// Searches the whole token for other keys that hold the value of a KEK, under any label and CKA_ID: after a destruction they would
// still decrypt what is stored under it. Compares attributes, and uses no key of another application. PKCS#11 v2.40, section
// 4.9 (CKA_CHECK_VALUE: three bytes computed from the value), and section 2.1 of the mechanisms (CKA_MODULUS).
import pkcs11js, { type Handle } from "pkcs11js";
import { namesValue } from "../hsm/key-id.js";
import type { FindCopiesRequest, KekCopy } from "../hsm/wire-calls.js";
import { readAttributes } from "./attributes.js";
import { TokenFault } from "./ckr.js";
import { keysOf, type Kek } from "./kek.js";
import { findKeys, type Listed } from "./key-search.js";
import type { LaneKeyring } from "./lane-keyring.js";
import type { TokenSession } from "./session.js";
import { unpad } from "./slots.js";

/** Returns the keys that have, or seem to have, the value of the KEK with these key_ids. @throws TokenFault */
export function findCopies(
  session: TokenSession,
  keyring: LaneKeyring,
  { keyIds }: FindCopiesRequest,
): readonly KekCopy[] {
  keyring.readAll();
  const isNamed = ({ record }: Kek): boolean =>
    [record.keyId, ...record.aliases].some((keyId) => keyIds.includes(keyId));
  const named = keyring.all.filter(isNamed);
  if (named.length === 0) return [];
  const own = new Set(named.flatMap(keysOf).map(numberOf));
  const fingerprints = new Set(keyIds.filter(namesValue).map(fingerprintIn));
  const proven = new Set(
    keyring.all
      .filter(({ record }) =>
        [record.keyId, ...record.aliases].some((keyId) => fingerprints.has(fingerprintIn(keyId))),
      )
      .flatMap(keysOf)
      .map(numberOf),
  );
  const objects = findKeys(session, []);
  const isOwn = ({ handle }: Listed): boolean => own.has(numberOf(handle));
  const values = new Set(objects.filter(isOwn).flatMap((object) => valueShown(session, object) ?? []));
  return objects
    .filter((object) => !isOwn(object))
    .flatMap((object): KekCopy[] => {
      const isProven = proven.has(numberOf(object.handle));
      const value = isProven ? undefined : valueShown(session, object);
      if (!isProven && (value === undefined || !values.has(value))) return [];
      const sign = isProven ? "fingerprint" : object.isPrivateKey ? "modulus" : "check value";
      return [{ ...nameOf(session, object), sign }];
    });
}

function numberOf(handle: Handle): bigint {
  return handle.readBigUInt64LE(0);
}

/** Returns the part of a key_id behind the CKA_ID. */
function fingerprintIn(keyId: string): string {
  return keyId.slice(keyId.indexOf("."));
}

/** Returns a text that two keys share only if they seem to have one value; undefined if the token shows nothing of it. */
function valueShown(session: TokenSession, { handle, isPrivateKey }: Listed): string | undefined {
  const shown = isPrivateKey ? pkcs11js.CKA_MODULUS : pkcs11js.CKA_CHECK_VALUE;
  try {
    const values = readAttributes(session, handle, [pkcs11js.CKA_KEY_TYPE, shown]);
    const [type, value] = [values.get(pkcs11js.CKA_KEY_TYPE), values.get(shown)];
    if (value === undefined || value.length === 0) return undefined;
    return `${String(isPrivateKey)} ${type?.toString("hex") ?? ""} ${value.toString("hex")}`;
  } catch (error) {
    // An object that vanishes meanwhile, or that the token does not show, must not hide the others.
    if (error instanceof TokenFault && (error.fault === "object" || error.fault === "setup")) {
      return undefined;
    }
    throw error;
  }
}

function nameOf(session: TokenSession, { handle }: Listed): Pick<KekCopy, "label" | "ckaId"> {
  const values = readAttributes(session, handle, [pkcs11js.CKA_LABEL, pkcs11js.CKA_ID], []);
  return {
    label: unpad(values.get(pkcs11js.CKA_LABEL)?.toString("utf8") ?? ""),
    ckaId: values.get(pkcs11js.CKA_ID)?.toString("hex") ?? "",
  };
}
