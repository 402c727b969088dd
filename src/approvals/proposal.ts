// What is proposed and approved: one operation on one KEK of one cluster, for a limited time. The proposer signs too, so
// that nobody can propose in another person's name and then approve it.
import { randomBytes } from "node:crypto";
import { z } from "zod";
import { canonicalBytes } from "./canonical-json.js";
import { digest, formatSecond, instant, keyId, name, parseDocument, signatures } from "./document.js";
import { OPERATIONS, type Operation, type Policy } from "./policy.js";
import { approversOf, verifySigners } from "./quorum.js";
import { refused } from "./refused.js";

export const DEFAULT_VALIDITY_MS = 24 * 3_600_000;
export const MAX_VALIDITY_MS = 7 * 24 * 3_600_000;

export const proposalSchema = z.strictObject({
  type: z.literal("kms-pkcs11/approval-proposal"),
  format: z.literal(1),
  operation: z.enum(OPERATIONS),
  cluster: name,
  /** The token's label or serial number, as the URI of the KEK names it. */
  token: z.string().max(64),
  /** Null only for "rotate", whose KEK does not exist yet, and for "recover" and "renew", which concern no KEK. */
  keyId: keyId.nullable(),
  /**
   * The KEK's label; for "renew" the set and epoch of the shares, as `renewalLabel` writes them; for "recover" the number of
   * objects, as `recoveryLabel` does.
   */
  label: z.string().max(64),
  /** When the KEK becomes active; null for a label without an instant. */
  activation: instant.nullable(),
  /** The etcd key that "read" prints; null for other operations. */
  object: z.string().min(1).max(1_024).nullable(),
  /** Digest of the usage report that the operation relies on, or of the list of "recover"; null if it relies on none. */
  report: digest.nullable(),
  proposer: name,
  reason: z.string().min(1).max(500),
  nonce: z.string().regex(/^[0-9a-f]{32}$/, "must be 32 hexadecimal digits"),
  created: instant,
  expires: instant,
});

const approvalSchema = z.strictObject({
  type: z.literal("kms-pkcs11/approval"),
  format: z.literal(1),
  proposal: proposalSchema,
  signatures,
});

export type Proposal = z.infer<typeof proposalSchema>;
export type Approval = z.infer<typeof approvalSchema>;

/** What somebody proposes. */
export type Draft = Omit<Proposal, "type" | "format" | "nonce" | "created" | "expires">;

/** Returns a proposal that nobody has signed. @throws KmsError NOT_APPROVED if a field is invalid */
export function propose(draft: Draft, now: number, validityMs: number): Approval {
  const proposal = {
    type: "kms-pkcs11/approval-proposal",
    format: 1,
    ...draft,
    nonce: randomBytes(16).toString("hex"),
    created: formatSecond(now),
    expires: formatSecond(now + validityMs),
  };
  return parseApproval(formatApproval({ proposal: proposal as Proposal, signatures: [] }));
}

const WITHOUT_KEK: readonly Operation[] = ["rotate", "recover", "renew"];

/** Parses an approval and checks its fields, without verifying signatures. @throws KmsError NOT_APPROVED */
export function parseApproval(text: string): Approval {
  const approval = parseDocument(approvalSchema, text, "the approval", "approvals propose");
  const { operation, keyId: kek, activation, object, report, created, expires } = approval.proposal;
  const validity = Date.parse(expires) - Date.parse(created);
  if (validity <= 0) throw refused(`the approval expires at ${expires}, before it was created`);
  if (validity > MAX_VALIDITY_MS) throw refused("an approval is valid for at most 7 days");
  const isWithoutKek = WITHOUT_KEK.includes(operation);
  if (isWithoutKek !== (kek === null)) {
    throw refused(`an approval of "${operation}" names ${isWithoutKek ? "no KEK" : "its KEK by key_id"}`);
  }
  if ((object === null) !== (operation !== "read")) {
    throw refused(`an approval of "${operation}" names ${operation === "read" ? "its object" : "no object"}`);
  }
  if (operation === "recover" && report === null) {
    throw refused('an approval of "recover" names the list of objects');
  }
  if (activation === null && (operation === "activate" || operation === "rotate")) {
    throw refused(`an approval of "${operation}" names the activation instant`);
  }
  return approval;
}

/**
 * Returns the label of an approval of "renew". It names the shares that the renewal ends, so that the approval can be used
 * again after an interruption, and never for another renewal.
 */
export function renewalLabel({ set, epoch }: { readonly set: string; readonly epoch: number }): string {
  return `set ${set}, epoch ${epoch}`;
}

/** Returns whether a proposal has expired; the approval of an activation stays valid for instants before that. */
export function isExpired({ expires }: Proposal): boolean {
  return Date.parse(expires) <= Date.now();
}

/**
 * Requires that the approval of an activation expires no earlier than its instant: every node refuses it otherwise.
 * @throws KmsError NOT_APPROVED
 */
export function requireInstantCovered(proposal: Proposal): void {
  const { operation, activation, expires } = proposal;
  if (operation !== "activate" || isUsable(proposal)) return;
  throw refused(
    `it expires at ${expires}, before the KEK's activation at ${activation}; propose it with a longer --valid, at most 168h, or nearer to the activation`,
  );
}

/** Returns whether an approval with its quorum permits something: nobody can use one that came too late. */
export function isUsable(proposal: Proposal): boolean {
  if (proposal.operation !== "activate") return !isExpired(proposal);
  return Date.parse(proposal.activation ?? "") <= Date.parse(proposal.expires);
}

/** Requires that a proposal has not expired. @throws KmsError NOT_APPROVED */
export function requireUnexpired(proposal: Proposal): void {
  if (isExpired(proposal)) throw refused(`it expired at ${proposal.expires}; propose it again`);
}

/** Largest difference between the clocks of the machines on which people propose and approve, in ms. */
const CLOCK_ERROR_MS = 5 * 60_000;

/** Returns the time from which a proposal counts, in ms since the epoch: one dated ahead would be valid for longer. */
export function countsFrom({ created }: Proposal): number {
  return Date.parse(created) - CLOCK_ERROR_MS;
}

/** Returns an approval as it is stored. */
export function formatApproval({ proposal, signatures }: Pick<Approval, "proposal" | "signatures">): string {
  const document = { type: "kms-pkcs11/approval", format: 1, proposal, signatures };
  return `${JSON.stringify(document, null, 2)}\n`;
}

/** Returns the bytes that proposer and approvers sign. */
export function signedBytes({ proposal }: Pick<Approval, "proposal">): Buffer {
  return canonicalBytes(proposal);
}

/** Who signed an approval, and how many approvers it requires. */
export interface Standing {
  /** Whether the proposer has signed. */
  readonly isProposed: boolean;
  /** Approvers other than the proposer. */
  readonly approvers: readonly string[];
  readonly needed: number;
}

/**
 * Verifies every signature, and counts approvers other than the proposer.
 * @throws KmsError NOT_APPROVED if the approval is for another cluster, was dated ahead, or a signature is refused
 */
export function standingOf(policy: Policy, approval: Approval): Standing {
  const { proposal, signatures } = approval;
  if (proposal.cluster !== policy.cluster) {
    throw refused(`the approval is for cluster "${proposal.cluster}", not for "${policy.cluster}"`);
  }
  if (!policy.people.some((person) => person.name === proposal.proposer)) {
    throw refused(`the proposer ${proposal.proposer} is not in version ${policy.version} of the policy`);
  }
  if (countsFrom(proposal) > Date.now()) {
    throw refused(
      `it was created in the future, at ${proposal.created}; compare the clocks of both machines`,
    );
  }
  // The proposer states when it was created: a key that has expired must not count again by an earlier date.
  const at = Math.max(Date.parse(proposal.created), Date.now());
  const signers = verifySigners(policy, signatures, signedBytes(approval), at);
  return {
    isProposed: signers.some(({ name }) => name === proposal.proposer),
    approvers: approversOf(signers).filter((one) => one !== proposal.proposer),
    needed: neededFor(policy, proposal.operation),
  };
}

/** Returns how many approvals an operation requires; 0 if it requires none. */
export function neededFor({ thresholds }: Policy, operation: Operation): number {
  return thresholds[operation] ?? 0;
}

/**
 * Requires the quorum for an approval.
 * @returns the approvers' names
 * @throws KmsError NOT_APPROVED that says who is missing
 */
export function requireQuorum(policy: Policy, approval: Approval): readonly string[] {
  const { isProposed, approvers, needed } = standingOf(policy, approval);
  const { proposer, operation } = approval.proposal;
  if (!isProposed) throw refused(`the approval is not signed by its proposer ${proposer}`);
  if (approvers.length >= needed) return approvers;
  const names = approvers.length === 0 ? "" : ` (${approvers.join(", ")})`;
  throw refused(
    `"${operation}" requires ${needed} approvers other than the proposer ${proposer}; ${approvers.length} signed${names}`,
  );
}
