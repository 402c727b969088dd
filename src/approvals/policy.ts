// One version of a policy: who may approve with which keys, and how many approvals each operation requires. It is the
// content that people sign; policy-chain.ts decides whether it is in force.
import { z } from "zod";
import { digest, instant, keyId, name } from "./document.js";
import { refused, refusedOf } from "./refused.js";
import { keyLine, readKeyLine } from "./ssh-key.js";

/** What can require approvals. "policy" is a new version of the policy, "activate" the first use of a KEK. */
export const OPERATIONS = ["activate", "rotate", "destroy", "adopt", "read", "recover", "renew"] as const;

export type Operation = (typeof OPERATIONS)[number];

const threshold = z.int().min(1).max(20);

const personSchema = z.strictObject({
  name,
  keys: z.array(z.string().max(4_096)).min(1).max(10),
  /** Whether this person's signatures count; otherwise the person can only propose. */
  approves: z.boolean(),
  /** From then on no signature of this person counts; null: never. */
  expires: instant.nullable(),
});

export const policySchema = z.strictObject({
  type: z.literal("kms-pkcs11/approval-policy"),
  format: z.literal(1),
  version: z.int().min(1).max(1_000),
  /** Digest of the previous version; null for the first. */
  previous: digest.nullable(),
  cluster: name,
  issued: instant,
  people: z.array(personSchema).min(1).max(50),
  thresholds: z.strictObject({
    policy: threshold,
    activate: threshold.optional(),
    rotate: threshold.optional(),
    destroy: threshold.optional(),
    adopt: threshold.optional(),
    read: threshold.optional(),
    recover: threshold.optional(),
    renew: threshold.optional(),
  }),
  /** Whether a security key must verify its holder by PIN or fingerprint, rather than by touch alone. */
  requireUserVerification: z.boolean(),
  /** Key_ids of the KEKs that were in use before this version: they need no approval. */
  keksInUse: z.array(keyId).max(100),
});

export type Policy = z.infer<typeof policySchema>;
export type Person = z.infer<typeof personSchema>;

/**
 * Checks what a schema cannot express: names and keys belong to one person each, and every threshold can be reached by
 * people other than the proposer.
 * @throws KmsError NOT_APPROVED
 */
export function checkPolicy({ people, thresholds, version, previous }: Policy): void {
  if ((version === 1) !== (previous === null)) throw refused("only the first version has no previous one");
  requireUnique(people, ({ name }) => name.toLowerCase(), "names two people alike");
  const keys = people.flatMap((person) =>
    person.keys.map((line) => ({ name: person.name, material: materialOf(person, line) })),
  );
  // A private key in software can also sign as a security key, or for another application.
  requireUnique(keys, ({ material }) => material, "lists a private key twice");
  const approvers = people.filter(({ approves }) => approves).length;
  const others = approvers === people.length ? approvers - 1 : approvers;
  if (thresholds.policy > approvers) throw refused("threshold policy is higher than the number of approvers");
  for (const operation of OPERATIONS) {
    const needed = thresholds[operation] ?? 0;
    if (needed > others) {
      throw refused(
        `threshold ${operation} cannot be reached: besides the proposer only ${others} can approve`,
      );
    }
    if (needed > thresholds.policy) {
      throw refused(
        `threshold policy must be at least threshold ${operation}, or fewer people could lower it`,
      );
    }
  }
}

/** Returns the material of a person's key, which must be written without options and comment. @throws NOT_APPROVED */
function materialOf(person: Person, line: string): string {
  const key = refusedOf(`a key of ${person.name}`, () => readKeyLine(line));
  if (keyLine(key) !== line) throw refused(`a key of ${person.name} is not written as "type base64"`);
  return key.material;
}

function requireUnique<T extends { readonly name: string }>(
  owners: readonly T[],
  valueOf: (owner: T) => string,
  problem: string,
): void {
  const first = new Map<string, string>();
  for (const owner of owners) {
    const other = first.get(valueOf(owner));
    if (other !== undefined) throw refused(`${problem}: ${other} and ${owner.name}`);
    first.set(valueOf(owner), owner.name);
  }
}

/** Returns the person whose key has this value; undefined if nobody has it. */
export function personWith({ people }: Policy, value: string): Person | undefined {
  return people.find(({ keys }) => keys.some((line) => line.endsWith(` ${value}`)));
}
