// Searches the whole token for other keys that hold the value of a KEK, under any label and CKA_ID: after a destruction they
// would still decrypt what is stored under it. Compares attributes, and uses no key of another application. PKCS#11 v2.40,
// section 4.9 (CKA_CHECK_VALUE: three bytes computed from the value), and section 2.1 of the mechanisms (CKA_MODULUS).
import pkcs11js, { type Handle } from "pkcs11js";
import { hasKeyId, haveOneFingerprint } from "../hsm/key-id.js";
import type { FindCopiesRequest, KekCopy } from "../hsm/wire-calls.js";
import { readAttributes } from "./attributes.js";
import { TokenFault } from "./ckr.js";
import { keysOf, partsOf, type Kek, type KekPart } from "./kek.js";
import { findKeys, findPrivateKeys, numberOf } from "./key-search.js";
import type { LaneKeyring } from "./lane-keyring.js";
import type { TokenSession } from "./session.js";
import { unpad } from "./slots.js";

/** A key and what shows that it is a copy. */
interface Found {
  readonly handle: Handle;
  readonly sign: KekCopy["sign"];
}

/** Returns the keys that have, or seem to have, the value of the KEK with these key_ids. @throws TokenFault */
export function findCopies(
  session: TokenSession,
  keyring: LaneKeyring,
  { keyIds }: FindCopiesRequest,
): readonly KekCopy[] {
  keyring.readAll();
  const named = keyring.all.filter(({ record }) => keyIds.some((keyId) => hasKeyId(record, keyId)));
  const hasFingerprint = ({ record }: Kek): boolean =>
    [record.keyId, ...record.aliases].some((one) => keyIds.some((keyId) => haveOneFingerprint(keyId, one)));
  const proven = named.length === 0 ? [] : keyring.all.filter(hasFingerprint).flatMap(keysOf);
  const found = [
    ...proven.map((handle): Found => ({ handle, sign: "fingerprint" })),
    ...named.flatMap(partsOf).flatMap((part) => sharing(session, part)),
  ];
  const own = new Set(named.flatMap(keysOf).map(numberOf));
  const copies = new Map<bigint, Found>();
  for (const one of found) {
    const number = numberOf(one.handle);
    if (!own.has(number) && !copies.has(number)) copies.set(number, one);
  }
  return [...copies.values()].map(({ handle, sign }) => ({ ...nameOf(session, handle), sign }));
}

/** Returns the keys that show the same value as a key of the KEK; none if the token shows nothing of its value. */
function sharing(session: TokenSession, { role, handle }: KekPart): Found[] {
  const isPrivate = role === "decrypts" || role === "signs";
  const type = isPrivate ? pkcs11js.CKA_MODULUS : pkcs11js.CKA_CHECK_VALUE;
  const search = isPrivate ? findPrivateKeys : findKeys;
  const shown = shownBy(session, handle, type);
  if (shown === undefined) return [];
  const others = (narrower: Parameters<typeof findKeys>[1]): Handle[] =>
    search(session, narrower).map((listed) => listed.handle);
  let candidates = unlessRefused(() => others([{ type, value: shown.value }])) ?? [];
  // A search that does not find the key itself has proven nothing.
  if (!candidates.some((one) => numberOf(one) === numberOf(handle))) candidates = others([]);
  return candidates
    .filter((one) => isSame(shownBy(session, one, type), shown))
    .map((one) => ({ handle: one, sign: isPrivate ? "modulus" : "check value" }));
}

interface Shown {
  readonly keyType: Buffer | undefined;
  readonly value: Buffer;
}

/** Returns what a key shows of its value. */
function shownBy(session: TokenSession, handle: Handle, type: number): Shown | undefined {
  const values = unlessRefused(() => readAttributes(session, handle, [pkcs11js.CKA_KEY_TYPE, type]));
  const value = values?.get(type);
  if (value === undefined || value.length === 0) return undefined;
  return { keyType: values?.get(pkcs11js.CKA_KEY_TYPE), value };
}

function isSame(one: Shown | undefined, other: Shown): boolean {
  if (one === undefined || !one.value.equals(other.value)) return false;
  return one.keyType === undefined || other.keyType === undefined || one.keyType.equals(other.keyType);
}

/** Returns undefined if the token refuses the call, or if an object has vanished, which must not hide the others. */
function unlessRefused<T>(call: () => T): T | undefined {
  try {
    return call();
  } catch (error) {
    if (error instanceof TokenFault && (error.fault === "object" || error.fault === "setup")) {
      return undefined;
    }
    throw error;
  }
}

function nameOf(session: TokenSession, handle: Handle): Pick<KekCopy, "label" | "ckaId"> {
  const values = readAttributes(session, handle, [pkcs11js.CKA_LABEL, pkcs11js.CKA_ID], []);
  return {
    label: unpad(values.get(pkcs11js.CKA_LABEL)?.toString("utf8") ?? ""),
    ckaId: values.get(pkcs11js.CKA_ID)?.toString("hex") ?? "",
  };
}
