// Explains in plain words what a proposal and a policy permit, before somebody signs. Text that others wrote is shown on one
// line, without control characters; a reason also without runs of spaces, which could place its end like another row.
import { collapseSpaces, oneLine } from "../untrusted-text.js";
import { OPERATIONS, type Operation, type Policy } from "./policy.js";
import type { Proposal } from "./proposal.js";
import { fingerprintOf, readKeyLine } from "./ssh-key.js";

const MEANING: Record<Operation, string> = {
  activate: "let every node encrypt new data under this KEK from its activation on",
  rotate: "make a new KEK that becomes active at this instant",
  destroy: "destroy this KEK forever; what is encrypted under it can then never be read again",
  adopt: "give this KEK an activation label",
  read: "decrypt and print one object of etcd",
  recover:
    "delete the listed objects that no key can decrypt, through kube-apiserver and without their finalizers",
  renew: "replace the token's PIN by a random one with other shares; the present shares then open nothing",
};

/** A name and its value. */
export type Row = readonly [name: string, value: string];

/** Returns what a proposal would permit. */
export function describeProposal(proposal: Proposal): Row[] {
  const { operation, cluster, token, keyId, label, activation, object, report } = proposal;
  const rows: (readonly [string, string | null])[] = [
    ["approve", `${operation}: ${MEANING[operation]}`],
    ["cluster", cluster],
    ["token", token],
    ["KEK", keyId],
    ["label", label],
    ["activation", activation],
    ["object", object],
    ["report", report],
    ["proposed by", proposal.proposer],
    ["reason", collapseSpaces(proposal.reason)],
    ["created", proposal.created],
    ["expires", proposal.expires],
  ];
  return rows.flatMap(([name, value]) =>
    value === null || value === "" ? [] : [[name, oneLine(value)] as const],
  );
}

/** Returns who approves what under a policy. */
export function describePolicy(policy: Policy): Row[] {
  const { thresholds, people, keksInUse } = policy;
  const needed = (["policy", ...OPERATIONS] as const).flatMap((operation) => {
    const count = thresholds[operation];
    return count === undefined ? [] : [`${operation} ${count}`];
  });
  return [
    ["cluster", policy.cluster],
    ["version", `${policy.version}, issued ${policy.issued}`],
    ["approvers required", needed.join(", ")],
    ["security keys", policy.requireUserVerification ? "PIN or fingerprint, and touch" : "touch"],
    ...people.map(({ name, keys, approves, expires }): Row => {
      const role = approves ? "approves" : "proposes only";
      const until = expires === null ? "" : `, until ${expires}`;
      return [name, `${role}${until}: ${keys.map((line) => describeKey(line)).join(", ")}`];
    }),
    ...keksInUse.map((keyId): Row => ["in use before", keyId]),
  ];
}

function describeKey(line: string): string {
  const key = readKeyLine(line);
  return `${key.type} ${fingerprintOf(key)}`;
}
