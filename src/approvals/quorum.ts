// Counts who signed a document under a policy. A signature that is invalid, of somebody unknown or expired, or repeated
// makes the whole document refused: a file that somebody tampered with is not used in part.
import type { Person, Policy } from "./policy.js";
import { personWith } from "./policy.js";
import { refused } from "./refused.js";
import { fingerprintOf } from "./ssh-key.js";
import { verifySignature, type VerifiedSignature } from "./ssh-signature.js";
import { KmsError } from "../errors.js";

/** A valid signature and the person who made it. */
export interface Signer {
  readonly person: Person;
  readonly signature: VerifiedSignature;
}

/**
 * Verifies every signature over the bytes of a document.
 * @param at the time for which people must not have expired, in ms since the epoch
 * @throws KmsError NOT_APPROVED that names the signature by its position or signer
 */
export function verifySigners(
  policy: Policy,
  signatures: readonly string[],
  message: Uint8Array,
  at: number,
): Signer[] {
  const signers = signatures.map((armoured, index) => {
    const signature = verified(armoured, message, index);
    return { person: signerOf(policy, signature, index, at), signature };
  });
  const keys = new Set(signers.map(({ signature }) => signature.key.value));
  if (keys.size !== signers.length) throw refused("two of its signatures were made with the same key");
  return signers;
}

function verified(armoured: string, message: Uint8Array, index: number): VerifiedSignature {
  try {
    return verifySignature(armoured, message);
  } catch (error) {
    throw refused(`signature ${index + 1} is refused: ${KmsError.from(error).message}`, error);
  }
}

function signerOf(policy: Policy, { key, touch }: VerifiedSignature, index: number, at: number): Person {
  const person = personWith(policy, key.value);
  const which = `signature ${index + 1} (key ${fingerprintOf(key)})`;
  if (person === undefined) throw refused(`${which} is of nobody in version ${policy.version} of the policy`);
  if (person.expires !== null && Date.parse(person.expires) <= at) {
    throw refused(`${which} does not count: ${person.name} expired at ${person.expires}`);
  }
  if (policy.requireUserVerification && touch !== undefined && !touch.isVerified) {
    throw refused(
      `${which} does not count: the security key of ${person.name} did not verify its holder; ` +
        "register the key with ssh-keygen -O verify-required",
    );
  }
  return person;
}

/** Returns the names of the approvers among the signers, each once, however many keys they used. */
export function approversOf(signers: readonly Signer[]): string[] {
  return [
    ...new Set(signers.filter(({ person }) => person.approves).map(({ person }) => person.name)),
  ].sort();
}
