// Counts who signed a document under a policy. One signature that is invalid, repeated, or by somebody unknown or expired
// causes the whole document to be refused: a file that was tampered with is not used in part.
import { KmsError } from "../errors.js";
import { personWith, type Person, type Policy } from "./policy.js";
import { refused } from "./refused.js";
import { fingerprintOf } from "./ssh-key.js";
import { verifySignature, type VerifiedSignature } from "./ssh-signature.js";

/**
 * Verifies every signature over the bytes of a document and returns who made them.
 * @param at the time for which people must not have expired, in ms since the epoch
 * @throws KmsError NOT_APPROVED that names the signature by its position or signer
 */
export function verifySigners(
  policy: Policy,
  signatures: readonly string[],
  message: Uint8Array,
  at: number,
): Person[] {
  return verifySignatures(signatures, message).map((signature, index) => {
    const found = signerUnder(policy, signature, index, at);
    if (found instanceof KmsError) throw found;
    return found;
  });
}

/** Verifies signatures, whoever made them. @throws KmsError NOT_APPROVED that names the signature by its position */
export function verifySignatures(signatures: readonly string[], message: Uint8Array): VerifiedSignature[] {
  const verified = signatures.map((armoured, index) => {
    try {
      return verifySignature(armoured, message);
    } catch (error) {
      throw refused(`signature ${index + 1} is refused: ${KmsError.from(error).message}`, error);
    }
  });
  const keys = verified.map(({ key }) => key.value);
  for (const [index, key] of keys.entries()) {
    const first = keys.indexOf(key);
    if (first === index) continue;
    throw refused(
      `signatures ${first + 1} and ${index + 1} were made with the same key; remove one: each person signs once, and the proposer has signed with 'approvals propose'`,
    );
  }
  return verified;
}

/**
 * Returns the person in a policy who made a signature, or why it does not count.
 * @param index position of the signature, counted from 0, for the message
 */
export function signerUnder(
  policy: Policy,
  { key, touch }: VerifiedSignature,
  index: number,
  at: number,
): Person | KmsError {
  const person = personWith(policy, key.value);
  const which = `signature ${index + 1} (key ${fingerprintOf(key)})`;
  if (person === undefined) {
    return refused(`${which} is not by a person in version ${policy.version} of the policy`);
  }
  if (person.expires !== null && Date.parse(person.expires) <= at) {
    return refused(`${which} does not count: ${person.name} expired at ${person.expires}`);
  }
  if (policy.requireUserVerification && touch !== undefined && !touch.isVerified) {
    return refused(
      `${which} does not count: the security key of ${person.name} did not verify its holder; ` +
        "register the key with ssh-keygen -O verify-required",
    );
  }
  return person;
}

/** Returns the names of the approvers among the signers, each once, however many keys they used. */
export function approversOf(signers: readonly Person[]): string[] {
  return [...new Set(signers.filter(({ approves }) => approves).map(({ name }) => name))].sort();
}
