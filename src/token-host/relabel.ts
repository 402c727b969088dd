// Changes a KEK's CKA_LABEL if the token permits it: in place, or by copies that replace the keys (C_CopyObject keeps
// the value inside the token). The originals are destroyed only after every key has its copy, so that a KEK of two keys
// is never without one of them. A change that was interrupted is completed. PKCS#11 v2.40 section 5.7.
import pkcs11js, { type Handle } from "pkcs11js";
import { namesValue } from "../hsm/key-id.js";
import { PUBLIC_KEY } from "../hsm/port.js";
import { TokenFault } from "./ckr.js";
import { partsOf, type Kek, type KekPart } from "./kek.js";
import { pairKeyId } from "./kek-naming.js";
import { rsaKeyId } from "./rsa-naming.js";
import { relabelPublicKeys } from "./rsa-public-objects.js";
import type { TokenSession } from "./session.js";

/** A key under its label. */
type Labelled = KekPart & { readonly label: string };

/**
 * Gives every key of a KEK the label, and destroys the originals of keys that were copied.
 * @param all all KEKs on the token, as just read
 * @throws TokenFault KEY_MISSING when the token does not hold the KEK; TOKEN_REFUSED when nothing shows that two keys
 * with its key_id have one value; or that says why neither method works: the keys then keep their label, unless the token
 * also refuses to restore it
 */
export function relabel(session: TokenSession, all: readonly Kek[], keyId: string, label: string): void {
  const named = all.filter(({ record }) => record.keyId === keyId);
  const halves = named.length > 0 ? named.slice(0, 1) : halvesOf(all, keyId);
  const [first] = halves;
  if (first === undefined) {
    throw new TokenFault(`the token holds no KEK with key_id ${keyId}`, {
      fault: "object",
      code: "KEY_MISSING",
    });
  }
  if (!namesValue(keyId)) requireOneLabel(named, label);
  const isPublic = publicKey(first);
  const labelled = all
    .filter((kek) => publicKey(kek) === isPublic)
    .flatMap((kek) => partsOf(kek).map((part): Labelled => ({ ...part, label: kek.record.label })));
  const originals = moveParts(session, halves.flatMap(partsOf), labelled, label);
  for (const kek of halves) relabelPublicKeys(session, kek, label);
  // The first key carries the KEK's CKA_ID, by which the next run finds what is left, so it is removed last.
  for (const { handle: object } of originals.reverse()) {
    session.run("removing a key under its old label (C_DestroyObject)", (handle) => {
      session.lib.C_DestroyObject(handle, object);
    });
  }
}

function publicKey({ record }: Kek): boolean {
  return record.unprotected.includes(PUBLIC_KEY);
}

/** Returns the two keys of a KEK whose labels differ, since a change was interrupted between them. */
function halvesOf(all: readonly Kek[], keyId: string): readonly Kek[] {
  for (const one of all) {
    const ckaId = Buffer.from(one.record.ckaId, "hex");
    for (const other of all) {
      if (publicKey(one) !== publicKey(other)) continue;
      const aes = one.fingerprints?.aes;
      const hmac = other.fingerprints?.hmac;
      const isPair = aes && hmac && one.record.ckaId === other.record.ckaId;
      if (isPair === true && pairKeyId(ckaId, aes, hmac) === keyId) return [one, other];
      const { decrypts } = one;
      const { signs } = other;
      if (decrypts && signs && rsaKeyId(ckaId, decrypts, signs) === keyId) return [one, other];
    }
  }
  return [];
}

function requireOneLabel(named: readonly Kek[], label: string): void {
  const other = named.find(({ record }) => record.label !== label)?.record;
  if (other === undefined || !named.some(({ record }) => record.label === label)) return;
  throw new TokenFault(
    `the token holds ${other.keyId} as "${other.label}" and as "${label}", and computes no fingerprint that shows whether they have ` +
      "one value; remove the unneeded one with the vendor's tool",
    { fault: "setup", code: "TOKEN_REFUSED" },
  );
}

/**
 * Gives each key the label in place, or makes a copy of it unless there is one. Returns the originals of the copies.
 * @throws TokenFault; keys that were renamed in place then have their old label again
 */
function moveParts(
  session: TokenSession,
  parts: readonly KekPart[],
  labelled: readonly Labelled[],
  label: string,
): Labelled[] {
  const originals: Labelled[] = [];
  const renamed: Labelled[] = [];
  try {
    for (const part of parts) {
      const same = labelled.filter((other) => isSame(other, part));
      const old = same.filter((other) => other.label !== label);
      const [source] = old;
      if (source === undefined) continue;
      const isDone = old.length < same.length;
      if (!isDone && renameInPlace(session, source, label)) renamed.push(source);
      originals.push(...old.filter((other) => !renamed.includes(other)));
    }
  } catch (error) {
    // A pair with different labels would be listed as two other KEKs.
    for (const part of renamed) renameInPlace(session, part, part.label);
    throw error;
  }
  return originals;
}

/** Returns whether two objects hold one key: a key without a fingerprint is only the same as itself. */
function isSame(one: KekPart, other: KekPart): boolean {
  if (one.role !== other.role) return false;
  if (one.value === undefined || other.value === undefined) return one.handle.equals(other.handle);
  return one.value.equals(other.value);
}

/** Returns false if the token has made a copy instead. @throws TokenFault when it does neither */
function renameInPlace(session: TokenSession, { handle: object }: KekPart, label: string): boolean {
  const template = [{ type: pkcs11js.CKA_LABEL, value: label }];
  const inPlace = session.attempt("changing a label (C_SetAttributeValue)", (handle) => {
    session.lib.C_SetAttributeValue(handle, object, template);
  });
  if (inPlace.ok) return true;
  if (inPlace.fault.fault !== "setup") throw inPlace.fault;
  const copied = session.attempt("copying a key (C_CopyObject)", (handle): Handle =>
    session.lib.C_CopyObject(handle, object, [...template, { type: pkcs11js.CKA_TOKEN, value: true }]),
  );
  if (!copied.ok) throw copied.fault.fault === "setup" ? inPlace.fault : copied.fault;
  return false;
}
