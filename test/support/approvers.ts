// People with keys, a policy that names them, and approvals that they sign.

import { canonicalBytes } from "../../src/approvals/canonical-json.js";
import type { SignedPolicy } from "../../src/approvals/policy-chain.js";
import type { Person, Policy } from "../../src/approvals/policy.js";
import { propose, signedBytes, type Approval, type Draft } from "../../src/approvals/proposal.js";
import { sshSigner, type SshSigner } from "./ssh-signer.js";

/** Keys by the name of their owner; "alice-2" is a second key of alice, a security key. */
export const KEYS = {
  alice: sshSigner(),
  "alice-2": sshSigner("sk-ssh-ed25519@openssh.com"),
  bob: sshSigner("sk-ecdsa-sha2-nistp256@openssh.com"),
  carol: sshSigner(),
  olga: sshSigner(),
  mallory: sshSigner(),
  trudy: sshSigner(),
} satisfies Record<string, SshSigner>;

export type KeyName = keyof typeof KEYS;

const person = (name: KeyName, more: Partial<Person> = {}): Person => ({
  name,
  keys: [KEYS[name].line],
  approves: true,
  expires: null,
  ...more,
});

/** Olga only proposes; mallory and trudy are not in the policy. */
export const PEOPLE = {
  alice: person("alice", { keys: [KEYS.alice.line, KEYS["alice-2"].line] }),
  bob: person("bob"),
  carol: person("carol"),
  olga: person("olga", { approves: false }),
  mallory: person("mallory"),
  trudy: person("trudy"),
};

/** Returns a first version: two of alice, bob and carol approve. */
export function policyOf(changes: Partial<Policy> = {}): Policy {
  return {
    type: "kms-pkcs11/approval-policy",
    format: 1,
    version: 1,
    previous: null,
    cluster: "prod-1",
    issued: "2026-11-01T00:00:00Z",
    people: [PEOPLE.alice, PEOPLE.bob, PEOPLE.carol, PEOPLE.olga],
    thresholds: { policy: 2, activate: 2, destroy: 2, rotate: 1, read: 1 },
    requireUserVerification: true,
    keksInUse: [],
    ...changes,
  };
}

/** Returns a version with signatures of these keys. */
export function signedBy(policy: Policy, ...names: readonly KeyName[]): SignedPolicy {
  return { policy, signatures: names.map((name) => KEYS[name].sign(canonicalBytes(policy))) };
}

/** The activation of a KEK, proposed by olga. */
export const DRAFT: Draft = {
  operation: "activate",
  cluster: "prod-1",
  token: "kms",
  keyId: "k10",
  label: "kms-kek@20261121T100010Z",
  activation: "2026-11-21T10:00:10Z",
  object: null,
  report: null,
  proposer: "olga",
  reason: "quarterly rotation",
};

/** Returns an approval of an activation, proposed by olga, with signatures of these keys. */
export function approvalBy(names: readonly KeyName[], changes: Partial<Draft> = {}, now = NOW): Approval {
  const approval = propose({ ...DRAFT, ...changes }, now, 24 * 3_600_000);
  return resigned(approval, ...names);
}

/** When the approvals of the tests are created, in ms since the epoch. */
export const NOW = Date.UTC(2026, 10, 21, 9, 0, 0);

/** Returns an approval with signatures of these keys instead of its own. */
export function resigned(approval: Approval, ...names: readonly KeyName[]): Approval {
  return { ...approval, signatures: names.map((name) => KEYS[name].sign(signedBytes(approval))) };
}
