// The versions of a policy, each signed by the quorum of the one before and of itself, as the root metadata of TUF (The
// Update Framework, section 5.3). The configuration pins the digest of the first version. A node remembers the latest
// version that it has seen, so that nobody can return to an earlier one.
import { z } from "zod";
import { canonicalBytes, digestOf } from "./canonical-json.js";
import { parseDocument, signatures } from "./document.js";
import { KmsError } from "../errors.js";
import { checkPolicy, policySchema, type Person, type Policy } from "./policy.js";
import { approversOf, signerUnder, verifySignatures } from "./quorum.js";
import { refused } from "./refused.js";

const chainSchema = z.strictObject({
  type: z.literal("kms-pkcs11/approval-policy-chain"),
  format: z.literal(1),
  versions: z
    .array(z.strictObject({ policy: policySchema, signatures }))
    .min(1)
    .max(1_000),
});

export type PolicyChain = z.infer<typeof chainSchema>;
export type SignedPolicy = PolicyChain["versions"][number];

/** The latest version of a policy, and the digests of all versions in order. */
export interface PolicyInForce {
  readonly policy: Policy;
  readonly digests: readonly string[];
}

/** How far a version is signed. */
export interface PolicyQuorum {
  readonly version: number;
  readonly digest: string;
  /** Approvers of this version who signed it. */
  readonly own: readonly string[];
  readonly ownNeeded: number;
  /** Approvers of the previous version who signed it; empty for the first version. */
  readonly before: readonly string[];
  readonly beforeNeeded: number;
}

/** Parses a chain, without deciding whether it is valid. @throws KmsError NOT_APPROVED */
export function parseChain(text: string): PolicyChain {
  return parseDocument(chainSchema, text, "the policy", "approvals policy init");
}

/** Returns a chain of unsigned or signed versions as it is stored. */
export function formatChain(versions: readonly SignedPolicy[]): string {
  return `${JSON.stringify({ type: "kms-pkcs11/approval-policy-chain", format: 1, versions }, null, 2)}\n`;
}

/**
 * Returns the latest version, after verifying the whole chain.
 * @param root digest of the first version, from the configuration; undefined to accept any
 * @throws KmsError NOT_APPROVED that names the version at fault
 */
export function verifyChain({ versions }: PolicyChain, root: string | undefined): PolicyInForce {
  const [first] = versions;
  const last = versions.at(-1);
  if (first === undefined || last === undefined) throw refused("the policy has no version");
  if (root !== undefined && digestOf(first.policy) !== root) {
    throw refused("the first version of the policy is not the one that approvals.root names");
  }
  const quorums = quorumsOf(versions);
  for (const quorum of quorums) requireQuorum(quorum);
  return { policy: last.policy, digests: quorums.map(({ digest }) => digest) };
}

/**
 * Checks the order and content of all versions and verifies every signature; returns who signed each.
 * @throws KmsError NOT_APPROVED that names the version at fault
 */
export function quorumsOf(versions: readonly SignedPolicy[]): PolicyQuorum[] {
  return versions.map((signed, index) => quorumOf(signed, versions[index - 1]?.policy, index + 1));
}

function quorumOf(
  { policy, signatures }: SignedPolicy,
  before: Policy | undefined,
  number: number,
): PolicyQuorum {
  try {
    if (policy.version !== number) throw refused(`it says version ${policy.version}`);
    checkPolicy(policy);
    if (before !== undefined) requireSuccessor(policy, before);
    const { own, old } = divide(policy, before, signatures, canonicalBytes(policy));
    return {
      version: number,
      digest: digestOf(policy),
      own: approversOf(own),
      ownNeeded: policy.thresholds.policy,
      before: approversOf(old),
      beforeNeeded: before?.thresholds.policy ?? 0,
    };
  } catch (error) {
    throw refused(`version ${number} of the policy: ${(error as Error).message}`, error);
  }
}

function requireSuccessor(policy: Policy, before: Policy): void {
  if (policy.previous !== digestOf(before)) throw refused("it does not follow the version before it");
  if (policy.cluster !== before.cluster) throw refused("it is for another cluster");
  if (Date.parse(policy.issued) < Date.parse(before.issued)) {
    throw refused("it is older than the version before it");
  }
}

/** A signature must count under this version or under the previous one; if it does under both, it counts for both. */
function divide(
  policy: Policy,
  before: Policy | undefined,
  signatures: readonly string[],
  message: Uint8Array,
): { own: Person[]; old: Person[] } {
  const at = Date.parse(policy.issued);
  const own: Person[] = [];
  const old: Person[] = [];
  for (const [index, signature] of verifySignatures(signatures, message).entries()) {
    const current = signerUnder(policy, signature, index, at);
    const previous = before && signerUnder(before, signature, index, at);
    if (!(current instanceof KmsError)) own.push(current);
    if (previous !== undefined && !(previous instanceof KmsError)) old.push(previous);
    else if (current instanceof KmsError) throw previous ?? current;
  }
  return { own, old };
}

const SIGN = "have the others sign it with 'approvals policy sign'";

/** @throws KmsError NOT_APPROVED if people are missing */
function requireQuorum({ version, own, ownNeeded, before, beforeNeeded }: PolicyQuorum): void {
  const list = (names: readonly string[]): string => names.join(", ") || "nobody";
  if (before.length < beforeNeeded) {
    throw refused(
      `version ${version} of the policy is signed by ${before.length} of ${beforeNeeded} approvers of version ${version - 1} (${list(before)}); ${SIGN}`,
    );
  }
  if (own.length >= ownNeeded) return;
  throw refused(
    `version ${version} of the policy is signed by ${own.length} of its ${ownNeeded} approvers (${list(own)}); ${SIGN}`,
  );
}
