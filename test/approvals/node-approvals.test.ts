// A node's decision whether a KEK may become active: which stored approvals permit it, and what a damaged policy changes.

import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { afterEach, beforeEach, expect, it, vi } from "vitest";

import { digestOf } from "../../src/approvals/canonical-json.js";
import { NodeApprovals } from "../../src/approvals/node-approvals.js";
import { formatChain, type SignedPolicy } from "../../src/approvals/policy-chain.js";
import { loadPolicy } from "../../src/approvals/policy-file.js";
import { formatApproval, type Approval } from "../../src/approvals/proposal.js";
import { approvalBy, NOW, policyOf, signedBy } from "../support/approvers.js";
import { SILENT } from "../support/fake-hsm.js";

const FIRST = policyOf({ keksInUse: ["k1"] });
const KEK = {
  names: ["k10"],
  label: "kms-kek@20261121T100010Z",
  activation: Date.UTC(2026, 10, 21, 10, 0, 10),
};

let stateDir: string;
let path: string;

beforeEach(() => {
  stateDir = mkdtempSync(join(tmpdir(), "approvals-"));
  path = join(stateDir, "policy.json");
  writePolicy(signedBy(FIRST, "alice", "bob"));
});

afterEach(() => {
  vi.restoreAllMocks();
  rmSync(stateDir, { recursive: true });
});

function writePolicy(...versions: SignedPolicy[]): void {
  writeFileSync(path, formatChain(versions));
}

const deliver = (approval: Approval, name = "x"): void => {
  writeFileSync(join(stateDir, `approval-${name}.json`), formatApproval(approval));
};

const source = () => ({ policy: path, root: digestOf(FIRST), stateDir });

function node(): NodeApprovals {
  const approvals = new NodeApprovals({ ...source(), tokens: ["kms"], log: SILENT });
  approvals.refresh();
  return approvals;
}

it("a node permits a KEK with an approval by the quorum", () => {
  const running = node();
  expect(running.refusalOf(KEK)).toBe("no approval by 2 people has been delivered to this node");
  deliver(approvalBy(["olga", "alice", "bob"]));
  running.refresh();
  expect(running.refusalOf(KEK)).toBeUndefined();
  expect(running.refusalOf({ ...KEK, names: ["rogue"] })).toMatch("no approval");
});

it("a node permits a KEK that the policy lists as in use", () => {
  expect(node().refusalOf({ ...KEK, names: ["k1"] })).toBeUndefined();
});

it("a node refuses a KEK whose key_id does not name its value", () => {
  expect(node().refusalOf({ ...KEK, names: [] })).toMatch("does not name its value");
});

it.each([
  ["too few signatures", approvalBy(["olga", "alice"]), "requires 2 approvers"],
  ["its proposer as an approver", approvalBy(["alice", "bob"], { proposer: "alice" }), "1 signed"],
  ["another operation", approvalBy(["olga", "alice", "bob"], { operation: "adopt" }), 'approves "adopt"'],
  ["another token", approvalBy(["olga", "alice", "bob"], { token: "other" }), 'token "other"'],
  ["another label", approvalBy(["olga", "alice", "bob"], { label: "x@20261121T100010Z" }), "is for label"],
  [
    "another instant",
    approvalBy(["olga", "alice", "bob"], { activation: "2026-11-21T10:00:11Z" }),
    "active from",
  ],
  [
    "an expiry before the activation",
    approvalBy(["olga", "alice", "bob"], {}, Date.UTC(2026, 10, 19)),
    "expires at",
  ],
])("a node refuses a KEK whose approval has %s", (_name, approval, reason) => {
  deliver(approval);
  expect(node().refusalOf(KEK)).toMatch(reason);
});

it("a node refuses an approval that was dated ahead until its date has come", () => {
  const now = vi.spyOn(Date, "now").mockReturnValue(NOW);
  deliver(approvalBy(["olga", "alice", "bob"], {}, NOW + 3_600_000));
  const running = node();
  expect(running.refusalOf(KEK)).toMatch("created in the future");
  now.mockReturnValue(NOW + 3_600_000);
  running.refresh();
  expect(running.refusalOf(KEK)).toBeUndefined();
});

it("a running node stops counting a person who expires, as a restarted one does", () => {
  const now = vi.spyOn(Date, "now").mockReturnValue(NOW);
  const people = FIRST.people.map((one) =>
    one.name === "bob" ? { ...one, expires: "2026-11-21T09:30:00Z" } : one,
  );
  const second = { ...FIRST, people, version: 2, previous: digestOf(FIRST), issued: "2026-11-02T00:00:00Z" };
  writePolicy(signedBy(FIRST, "alice", "bob"), signedBy(second, "alice", "bob"));
  deliver(approvalBy(["olga", "alice", "bob"]));
  const running = node();
  now.mockReturnValue(Date.UTC(2026, 10, 21, 9, 29, 59, 999));
  running.refresh();
  expect(running.refusalOf(KEK)).toBeUndefined();
  now.mockReturnValue(Date.UTC(2026, 10, 21, 9, 30));
  running.refresh();
  expect(running.refusalOf(KEK)).toMatch("bob expired at 2026-11-21T09:30:00Z");
  expect(node().refusalOf(KEK)).toMatch("bob expired at 2026-11-21T09:30:00Z");
});

it("a valid approval permits a KEK beside a refused one and other files", () => {
  deliver(approvalBy(["olga", "alice"]), "a");
  deliver(approvalBy(["olga", "alice", "bob"]), "b");
  writeFileSync(join(stateDir, "approval-junk.json"), "{");
  mkdirSync(join(stateDir, "approval-folder.json"));
  expect(node().refusalOf(KEK)).toBeUndefined();
});

it("a node decides by the last valid policy while the file is damaged, and reports it", () => {
  deliver(approvalBy(["olga", "alice", "bob"]));
  const running = node();
  writeFileSync(path, "{");
  running.refresh();
  expect(running.problem).toMatch("the policy is not JSON");
  expect(running.refusalOf(KEK)).toBeUndefined();
  expect(node().refusalOf(KEK)).toMatch("no further KEK becomes active");
  writePolicy(signedBy(FIRST, "alice", "bob"));
  running.refresh();
  expect(running.problem).toBeUndefined();
});

it("a node refuses an earlier version of the policy, and another under the same number", () => {
  const second = { ...FIRST, version: 2, previous: digestOf(FIRST), issued: "2026-11-02T00:00:00Z" };
  const start = signedBy(FIRST, "alice", "bob");
  writePolicy(start, signedBy(second, "alice", "bob"));
  expect(loadPolicy(source()).policy.version).toBe(2);
  writePolicy(start);
  expect(() => loadPolicy(source())).toThrow("at version 1, but version 2 was in force here");
  writePolicy(start, signedBy({ ...second, cluster: "prod-1", keksInUse: [] }, "alice", "carol"));
  expect(() => loadPolicy(source())).toThrow("is not the one that was in force here");
  writeFileSync(join(stateDir, "policy-seen.json"), "{");
  expect(() => loadPolicy(source())).toThrow("restore it");
});

it("a node judges approvals by the policy in force: a person who left no longer counts", () => {
  deliver(approvalBy(["olga", "alice", "bob"]));
  const running = node();
  const people = FIRST.people.filter(({ name }) => name !== "bob");
  const second = { ...FIRST, people, version: 2, previous: digestOf(FIRST), issued: "2026-11-02T00:00:00Z" };
  writePolicy(signedBy(FIRST, "alice", "bob"), signedBy(second, "alice", "carol"));
  // Bob signed neither, but version 1 needs two of its own: alice and carol are.
  running.refresh();
  expect(running.problem).toBeUndefined();
  expect(running.refusalOf(KEK)).toMatch("is not by a person in version 2");
});

it("a node does not wait for a policy that is a pipe", () => {
  rmSync(path);
  execFileSync("mkfifo", [path]);
  expect(node().problem).toMatch("is not a regular file");
});
