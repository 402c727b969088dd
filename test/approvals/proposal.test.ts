// Approvals: whose signatures count, and that no altered, self-approved or foreign one is accepted.

import fc from "fast-check";
import { describe, expect, it } from "vitest";

import { KmsError } from "../../src/errors.js";
import {
  formatApproval,
  parseApproval,
  propose,
  requireQuorum,
  standingOf,
  type Approval,
} from "../../src/approvals/proposal.js";
import { approvalBy, DRAFT, KEYS, NOW, PEOPLE, policyOf, resigned } from "../support/approvers.js";

const POLICY = policyOf();
const GOOD = approvalBy(["olga", "alice", "bob"]);

describe("an approval", () => {
  it("an approval carries the quorum of people other than its proposer", () => {
    expect(requireQuorum(POLICY, parseApproval(formatApproval(GOOD)))).toEqual(["alice", "bob"]);
  });

  it("an approval lacks the quorum while people are missing", () => {
    expect(() => requireQuorum(POLICY, approvalBy(["olga", "alice"]))).toThrow(
      "requires 2 approvers other than the proposer olga; 1 signed (alice)",
    );
    expect(standingOf(POLICY, approvalBy(["olga"]))).toEqual({ isProposed: true, approvers: [], needed: 2 });
  });

  it("an approval does not count its proposer as an approver", () => {
    expect(() => requireQuorum(POLICY, approvalBy(["alice", "bob"], { proposer: "alice" }))).toThrow(
      "1 signed",
    );
  });

  it("an approval in the name of a proposer who has not signed is refused", () => {
    expect(() => requireQuorum(POLICY, approvalBy(["alice", "bob"]))).toThrow(
      "not signed by its proposer olga",
    );
  });

  it("an approval counts two keys of a person once", () => {
    expect(() => requireQuorum(POLICY, approvalBy(["olga", "alice", "alice-2"]))).toThrow("1 signed (alice)");
  });

  it("an approval is refused with a signature by somebody unknown", () => {
    expect(() => requireQuorum(POLICY, resigned(GOOD, "olga", "alice", "bob", "mallory"))).toThrow(
      "signature 4 (key SHA256:",
    );
  });

  it("an approval is refused for another cluster, or with a proposer not in the policy", () => {
    expect(() => requireQuorum(policyOf({ cluster: "other" }), GOOD)).toThrow(
      'cluster "prod-1", not for "other"',
    );
    const unknown = approvalBy(["alice", "bob"], { proposer: "mallory" });
    expect(() => requireQuorum(POLICY, unknown)).toThrow("mallory is not in version 1");
  });

  it("an approval does not count people who have expired since, whatever date it states", () => {
    const people = [
      PEOPLE.alice,
      { ...PEOPLE.bob, expires: "2026-11-22T00:00:00Z" },
      PEOPLE.carol,
      PEOPLE.olga,
    ];
    expect(() => requireQuorum(policyOf({ people }), GOOD)).toThrow("bob expired at 2026-11-22");
  });

  it("an approval does not count people who had expired when it was made", () => {
    const people = [
      PEOPLE.alice,
      { ...PEOPLE.bob, expires: "2026-11-10T00:00:00Z" },
      PEOPLE.carol,
      PEOPLE.olga,
    ];
    expect(() => requireQuorum(policyOf({ people }), GOOD)).toThrow("bob expired");
  });

  it("an approval needs a security key's verified holder, unless touch alone is allowed", () => {
    const touched = (approval: Approval): Approval => ({
      ...approval,
      signatures: approval.signatures.map((one, index) => (index === 2 ? touchOnly(approval) : one)),
    });
    expect(() => requireQuorum(POLICY, touched(GOOD))).toThrow("bob did not verify its holder");
    expect(requireQuorum(policyOf({ requireUserVerification: false }), touched(GOOD))).toHaveLength(2);
  });

  it("an approval is refused with a signature for another purpose", () => {
    const foreign = KEYS.bob.sign(JSON.stringify(GOOD.proposal), { namespace: "git" });
    const [olga = "", alice = ""] = GOOD.signatures;
    expect(() => requireQuorum(POLICY, { ...GOOD, signatures: [olga, alice, foreign] })).toThrow(
      'signature 3 is refused: it was made for "git"',
    );
  });

  it("an approval is valid for at most 7 days", () => {
    expect(() => propose(DRAFT, NOW, 8 * 24 * 3_600_000)).toThrow("at most 7 days");
    expect(() => propose(DRAFT, NOW, 0)).toThrow("before it was created");
  });

  it.each([
    [{ keyId: null }, 'of "activate" names its KEK by key_id'],
    [{ operation: "rotate" }, 'of "rotate" names no KEK'],
    [{ object: "/registry/secrets/a" }, 'of "activate" names no object'],
    [{ operation: "read" }, 'of "read" names its object'],
    [{ activation: null }, 'of "activate" names the activation instant'],
    [{ operation: "recover", keyId: null }, 'of "recover" names the list of objects'],
  ] as const)("an approval with %j is refused by the rule that it breaks", (changes, problem) => {
    expect(() => propose({ ...DRAFT, ...changes }, NOW, 3_600_000)).toThrow(problem);
  });
});

it("none of 10,000 altered approvals is accepted, and each ends in a refusal", () => {
  const text = JSON.stringify(GOOD);
  const original = JSON.stringify(parseApproval(text));
  const edit = fc.record({
    at: fc.nat(text.length - 1),
    remove: fc.integer({ min: 0, max: 3 }),
    insert: fc.string({ maxLength: 3 }),
  });
  fc.assert(
    fc.property(edit, ({ at, remove, insert }) => {
      const changed = text.slice(0, at) + insert + text.slice(at + remove);
      try {
        const approval = parseApproval(changed);
        if (JSON.stringify(approval) === original) return true;
        requireQuorum(POLICY, approval);
        return false;
      } catch (error) {
        return error instanceof KmsError && error.code === "NOT_APPROVED";
      }
    }),
    { numRuns: 10_000 },
  );
});

function touchOnly({ proposal }: Approval): string {
  return KEYS.bob.sign(JSON.stringify(sorted(proposal)), { flags: 1 });
}

function sorted(value: object): object {
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));
}
