// The versions of a policy: whose signatures a new version needs, and what is refused.

import { describe, expect, it } from "vitest";

import { canonicalBytes, digestOf } from "../../src/approvals/canonical-json.js";
import { formatChain, parseChain, verifyChain, type SignedPolicy } from "../../src/approvals/policy-chain.js";
import type { Policy } from "../../src/approvals/policy.js";
import { wireString } from "../../src/approvals/wire-reader.js";
import { PEOPLE, policyOf, signedBy } from "../support/approvers.js";

const first = policyOf();
const next = (changes: Partial<Policy> = {}, before: Policy = first): Policy => ({
  ...before,
  version: before.version + 1,
  previous: digestOf(before),
  issued: "2026-11-02T00:00:00Z",
  ...changes,
});
const ROOT = digestOf(first);
const start = signedBy(first, "alice", "bob");

const verify = (...versions: SignedPolicy[]) => verifyChain(parseChain(formatChain(versions)), ROOT);

/** Returns a line with the same point, which the same private key signs for. */
const rewritten = (line = "", change: (bytes: Buffer) => Buffer): string => {
  const bytes = change(Buffer.from(line.split(" ")[1] ?? "", "base64"));
  return `${bytes.toString("latin1", 4, 4 + bytes.readUInt32BE())} ${bytes.toString("base64")}`;
};
const asSecurityKey = (line?: string): string =>
  rewritten(line, (bytes) => {
    const point = bytes.subarray(4 + bytes.readUInt32BE());
    return Buffer.concat([wireString("sk-ssh-ed25519@openssh.com"), point, wireString("ssh:")]);
  });
const forOtherApplication = (line?: string): string =>
  rewritten(line, (bytes) =>
    Buffer.concat([bytes.subarray(0, -wireString("ssh:").length), wireString("ssh:x")]),
  );

describe("the first version", () => {
  it("a policy is in force with its quorum's signatures, if the configuration names it", () => {
    expect(verify(start).policy).toEqual(first);
  });

  it("a policy's first version needs its own quorum", () => {
    expect(() => verify(signedBy(first, "alice"))).toThrow("signed by 1 of its 2 approvers (alice)");
  });

  it("a policy is refused if the configuration names another", () => {
    const other = policyOf({ cluster: "other" });
    expect(() => verify(signedBy(other, "alice", "bob"))).toThrow("approvals.root");
  });

  it("a policy counts a person with two keys once", () => {
    expect(() => verify(signedBy(first, "alice", "alice-2"))).toThrow("1 of its 2");
  });

  it("a policy does not count a person who only proposes", () => {
    expect(() => verify(signedBy(first, "alice", "olga"))).toThrow("1 of its 2");
  });

  it("a policy's signature by somebody unknown is refused, by its position", () => {
    expect(() => verify(signedBy(first, "alice", "bob", "mallory"))).toThrow(
      /signature 3 .* is not by a person/,
    );
  });

  it("a policy refuses two signatures by the same key", () => {
    expect(() => verify(signedBy(first, "alice", "bob", "bob"))).toThrow("same key");
  });
});

describe("a new version", () => {
  const lower = next({ thresholds: { ...first.thresholds, activate: 1 } });

  it("a new policy version is in force with the quorums of the previous one and of itself", () => {
    expect(verify(start, signedBy(lower, "alice", "carol")).policy.version).toBe(2);
  });

  it("a new policy version needs the quorum of the previous one", () => {
    const people = [...first.people.filter(({ name }) => name === "olga"), PEOPLE.mallory, PEOPLE.trudy];
    const coup = next({ people });
    expect(() => verify(start, signedBy(coup, "mallory", "trudy"))).toThrow(
      "signed by 0 of 2 approvers of version 1",
    );
  });

  it("a new policy version needs the quorum of its own people too", () => {
    const people = [...first.people, PEOPLE.mallory];
    const wider = next({ people, thresholds: { ...first.thresholds, policy: 3 } });
    expect(() => verify(start, signedBy(wider, "alice", "bob"))).toThrow("2 of its 3");
    expect(verify(start, signedBy(wider, "alice", "bob", "mallory")).policy.version).toBe(2);
  });

  it("a new policy version must follow the one before it", () => {
    const stray = next({ previous: digestOf(lower) });
    expect(() => verify(start, signedBy(stray, "alice", "bob"))).toThrow("does not follow");
  });

  it.each([
    ["a gap", { version: 3 }, "version 3"],
    ["another cluster", { cluster: "other" }, "another cluster"],
    ["an earlier time", { issued: "2026-10-01T00:00:00Z" }, "older"],
  ])("a new policy version is refused with %s", (_name, changes, problem) => {
    expect(() => verify(start, signedBy(next(changes), "alice", "bob"))).toThrow(problem);
  });

  it("a policy version does not count a person who had expired when it was issued", () => {
    const people = first.people.map((person) =>
      person.name === "carol" ? { ...person, expires: "2026-11-01T12:00:00Z" } : person,
    );
    const expiring = policyOf({ people });
    const chain = [signedBy(expiring, "alice", "bob"), signedBy(next({}, expiring), "alice", "carol")];
    expect(() => verifyChain(parseChain(formatChain(chain)), undefined)).toThrow("carol expired");
  });
});

describe("the content of a policy", () => {
  it.each([
    ["a threshold beyond its approvers", { thresholds: { policy: 4 } }, "higher than"],
    [
      "an operation with more approvers than the policy",
      { thresholds: { policy: 1, activate: 2 } },
      "at least",
    ],
    [
      "a key of two people",
      { people: [PEOPLE.alice, { ...PEOPLE.bob, keys: PEOPLE.alice.keys }] },
      "key twice: alice and bob",
    ],
    [
      "a key of two people, of whom one has it as a security key",
      { people: [PEOPLE.alice, { ...PEOPLE.bob, keys: [asSecurityKey(PEOPLE.alice.keys[0])] }] },
      "key twice: alice and bob",
    ],
    [
      "a security key of two people, registered for two applications",
      { people: [PEOPLE.bob, { ...PEOPLE.carol, keys: [forOtherApplication(PEOPLE.bob.keys[0])] }] },
      "key twice: bob and carol",
    ],
    ["two names alike", { people: [PEOPLE.alice, { ...PEOPLE.bob, name: "Alice" }] }, "alike"],
    [
      "a name with control characters",
      { people: [{ ...PEOPLE.alice, name: "a\u001b[2J" }] },
      "must consist of",
    ],
    [
      "a key with a comment",
      { people: [{ ...PEOPLE.alice, keys: [`${PEOPLE.alice.keys[0]} x`] }] },
      "not written",
    ],
    ["a time that does not exist", { issued: "2026-02-30T00:00:00Z" }, "a time that exists"],
    ["a field that is unknown", { extra: true }, "invalid"],
  ])("a policy is not accepted with %s", (_name, changes, problem) => {
    const policy = policyOf(changes as Partial<Policy>);
    expect(() => verifyChain(parseChain(formatChain([signedBy(policy, "alice", "bob")])), undefined)).toThrow(
      problem,
    );
  });

  it("a policy has thresholds that people other than the proposer can reach", () => {
    const people = [PEOPLE.alice, PEOPLE.bob];
    const policy = policyOf({ people, thresholds: { policy: 2, activate: 2 } });
    expect(() => verifyChain(parseChain(formatChain([signedBy(policy, "alice", "bob")])), undefined)).toThrow(
      "besides the proposer only 1",
    );
  });

  it("a policy is signed in the canonical form of RFC 8785", () => {
    expect(canonicalBytes({ b: 1, a: ["é\n", null, true], "\u20ac": "\u0007" }).toString()).toBe(
      '{"a":["é\\n",null,true],"b":1,"€":"\\u0007"}',
    );
    for (const value of [1.5, -0, Number.NaN, "\ud800", undefined, new Date()]) {
      expect(() => canonicalBytes({ value })).toThrow("canonical");
    }
  });
});
