// The commands for approvals, with the real ssh-keygen: from a first policy to an approval that a node accepts, and what
// they refuse on the way.

import { mkdtempSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { beforeAll, expect, it } from "vitest";

import { deliverApproval } from "../../../src/admin/approval-delivery.js";
import { approvalCheck, requireApprovalEarly } from "../../../src/admin/approval-check.js";
import { readObjectList } from "../../../src/admin/recover/list-file.js";
import { digestOf } from "../../../src/approvals/canonical-json.js";
import { parseApproval } from "../../../src/approvals/proposal.js";
import { parseChain } from "../../../src/approvals/policy-chain.js";
import type { Settings } from "../../../src/config/settings.js";
import {
  approvals,
  file,
  folder,
  KEK,
  makePolicy,
  POLICY,
  POLICY_OF,
  propose,
  sign,
} from "../../support/approvals-stage.js";

/** Settings as far as approvals depend on them. */
function settings(): Settings {
  const root = /sha256:[0-9a-f]{64}/.exec(readFileSync(file("root"), "utf8"))?.[0] ?? "";
  const tokens = [{ uri: { token: "kms" } }];
  return { approvals: { policy: POLICY, root }, stateDir: folder, tokens } as unknown as Settings;
}

beforeAll(makePolicy);

it("approvals sign collects signatures until the quorum; show says who is missing", async () => {
  expect(
    await propose("a.json", "activate", "kms-kek@20261201T100000Z", "--kek", KEK, "--valid", "168h"),
  ).toMatchObject({
    code: 0,
  });
  const before = await approvals("show", file("a.json"), "--policy", POLICY);
  expect(before.code).toBe(1);
  expect(before.stdout).toMatch(/missing +2 of alice, bob/);
  expect(before.stdout).toContain("a \\u001b[2J test");
  expect((await sign("a.json", "alice")).stdout).toBe("signed: 1 of 2 approvers (alice)\n");
  expect(await sign("a.json", "alice")).toMatchObject({ code: 1 });
  expect((await sign("a.json", "bob")).code).toBe(0);
  expect((await approvals("show", file("a.json"), "--policy", POLICY)).code).toBe(0);
});

it("approvals propose refuses a proposal that another person signs", async () => {
  const forged = await propose("b.json", "destroy", "kms-kek", "--kek", KEK, "-i", file("alice"));
  expect(forged).toMatchObject({ code: 1 });
  expect(forged.stderr).toContain("is not olga's");
  expect(readdirSync(folder)).not.toContain("b.json");
});

it("nobody is asked to sign with a key that does not exist", async () => {
  await propose("k.json", "destroy", "kms-kek", "--kek", KEK);
  const before = readFileSync(file("k.json"), "utf8");
  const missing = file("nobody");
  expect(await approvals("sign", file("k.json"), "--policy", POLICY, "-i", missing, "--yes")).toMatchObject({
    code: 2,
    stderr: `kms-pkcs11: --identity: ${missing} does not exist; give your private or public key\n`,
  });
  expect(readFileSync(file("k.json"), "utf8")).toBe(before);
});

it("an operation requires a quorum for exactly what was approved", async () => {
  const operation = { operation: "destroy", names: [KEK], label: "kms-kek" } as const;
  await expect(approvalCheck(settings(), undefined)(operation)).rejects.toThrow("requires 2 approvers");
  await propose("d.json", "destroy", "kms-kek", "--kek", KEK);
  const check = approvalCheck(settings(), file("d.json"));
  await sign("d.json", "alice");
  await expect(check(operation)).rejects.toThrow("1 signed (alice)");
  await sign("d.json", "bob");
  await expect(check(operation)).resolves.toMatchObject({ approvers: "alice, bob", proposer: "olga" });
  await expect(check({ ...operation, names: ["other"] })).rejects.toThrow("is for KEK");
  await expect(check({ ...operation, label: "other" })).rejects.toThrow("is for label");
  await expect(check({ ...operation, operation: "adopt" })).rejects.toThrow('is for "destroy"');
  const elsewhere = { ...settings(), tokens: [{ uri: { token: "x" } }] } as unknown as Settings;
  await expect(approvalCheck(elsewhere, file("d.json"))(operation)).rejects.toThrow('for token "kms"');
});

it("the approval of a rotation is used once", async () => {
  const label = "kms-kek@20261202T100000Z";
  await propose("r.json", "rotate", label, "-o", "json");
  await sign("r.json", "bob", "-o", "json");
  const shown = await approvals("show", file("r.json"), "--policy", POLICY, "-o", "json");
  expect(JSON.parse(shown.stdout)).toMatchObject({ approvers: ["bob"], needed: 1, isApproved: true });
  const check = approvalCheck(settings(), file("r.json"));
  await expect(check({ operation: "rotate", names: [], label })).resolves.toMatchObject({ approvers: "bob" });
  await expect(check({ operation: "rotate", names: [], label })).rejects.toThrow("used already");
});

it("a proposal that was dated ahead is neither signed nor used nor delivered", async () => {
  const label = "kms-kek@20310101T100000Z";
  await propose("f.json", "rotate", label);
  const approval = JSON.parse(readFileSync(file("f.json"), "utf8")) as { proposal: Record<string, string> };
  approval.proposal["created"] = "2031-01-01T00:00:00Z";
  approval.proposal["expires"] = "2031-01-02T00:00:00Z";
  writeFileSync(file("f.json"), JSON.stringify(approval));
  expect(await sign("f.json", "bob")).toMatchObject({
    code: 1,
    stderr: expect.stringContaining("created in the future") as string,
  });
  const use = approvalCheck(settings(), file("f.json"))({ operation: "rotate", names: [], label });
  await expect(use).rejects.toThrow("created in the future");
  const activate = { ...approval, proposal: { ...approval.proposal, operation: "activate", keyId: KEK } };
  expect(() => deliverApproval(settings(), parseApproval(JSON.stringify(activate)))).toThrow("in the future");
});

it("an approval that several commands use at the same moment is used once", async () => {
  const label = "kms-kek@20261203T100000Z";
  await propose("r2.json", "rotate", label);
  await sign("r2.json", "bob");
  const check = approvalCheck(settings(), file("r2.json"));
  const outcomes = await Promise.allSettled(
    Array.from({ length: 5 }, () => check({ operation: "rotate", names: [], label })),
  );
  expect(outcomes.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
});

it("the approval of a renewal concerns one set and epoch, and no KEK", async () => {
  const policy = ["--threshold", "renew=1"];
  const made = await approvals(
    "policy",
    "init",
    file("p2.json"),
    ...POLICY_OF,
    "--threshold",
    "policy=2",
    ...policy,
  );
  expect(made).toMatchObject({ code: 0 });
  for (const name of ["alice", "bob"]) {
    await approvals("policy", "sign", file("p2.json"), "-i", file(name), "--yes");
  }
  const label = "set 0a1b2c3d, epoch 1";
  const with2 = ["--policy", file("p2.json")];
  expect(await propose("n.json", "renew", label, ...with2)).toMatchObject({ code: 0 });
  expect(await propose("n2.json", "renew", label, ...with2, "--kek", KEK)).toMatchObject({ code: 1 });
  await approvals("sign", file("n.json"), ...with2, "-i", file("bob"), "--yes");
  const root = digestOf(parseChain(readFileSync(file("p2.json"), "utf8")).versions[0]?.policy);
  const own = mkdtempSync(join(folder, "state-"));
  const there = { ...settings(), approvals: { policy: file("p2.json"), root }, stateDir: own };
  const renew = { operation: "renew", names: [], label } as const;
  await expect(requireApprovalEarly(there, undefined, "renew")).rejects.toThrow(
    /requires 1 approvers for "renew"; propose it with .*--operation renew/,
  );
  const check = approvalCheck(there, file("n.json"));
  for (let times = 0; times < 2; times++) {
    await expect(check(renew)).resolves.toMatchObject({ approvers: "bob" });
  }
  await expect(check({ ...renew, label: "set 0a1b2c3d, epoch 2" })).rejects.toThrow("is for label");
});

it("the approval of a recovery concerns one list of objects, and can be used again", async () => {
  const policy = file("p3.json");
  const thresholds = ["--threshold", "policy=2", "--threshold", "recover=1"];
  expect(await approvals("policy", "init", policy, ...POLICY_OF, ...thresholds)).toMatchObject({ code: 0 });
  for (const name of ["alice", "bob"]) {
    await approvals("policy", "sign", policy, "-i", file(name), "--yes");
  }
  const listOf = (...names: string[]): string => {
    const path = file(`list-${names.join("-")}.json`);
    writeFileSync(path, JSON.stringify({ findings: names.map((key) => ({ key, modRevision: 7 })) }));
    return path;
  };
  const list = listOf("a", "b");
  const with3 = ["--policy", policy];
  const lacking = await propose("r0.json", "recover", "2 objects", ...with3);
  expect(lacking).toMatchObject({ code: 1, stderr: expect.stringContaining("names the list") as string });
  const proposed = await propose("recover.json", "recover", "2 objects", ...with3, "--list", list);
  expect(proposed).toMatchObject({ code: 0, stderr: expect.stringMatching(/^next: /m) as string });
  await approvals("sign", file("recover.json"), ...with3, "-i", file("bob"), "--yes");
  const root = digestOf(parseChain(readFileSync(policy, "utf8")).versions[0]?.policy);
  const own = mkdtempSync(join(folder, "state-"));
  const there = { ...settings(), approvals: { policy, root }, stateDir: own };
  await expect(requireApprovalEarly(there, undefined, "recover")).rejects.toThrow(
    /requires 1 approvers for "recover"; write the list with .*--only/,
  );
  const check = approvalCheck(there, file("recover.json"));
  const order = { operation: "recover", names: [] } as const;
  for (let times = 0; times < 2; times++) {
    const given = check({ ...order, ...readObjectList(list).approved });
    await expect(given).resolves.toMatchObject({ approvers: "bob" });
  }
  const other = readObjectList(listOf("a", "c")).approved;
  await expect(check({ ...order, ...other })).rejects.toThrow(
    /relies on another list of objects; give sha256:[0-9a-f]{64} with --only instead of sha256:[0-9a-f]{64}$/,
  );
});

it("no approval is needed without a policy, or for what it leaves open", async () => {
  const operation = { operation: "adopt", names: [KEK] } as const;
  await expect(approvalCheck(settings(), undefined)(operation)).resolves.toEqual({});
  await expect(approvalCheck({} as Settings, undefined)(operation)).resolves.toEqual({});
  await expect(approvalCheck({} as Settings, file("d.json"))(operation)).rejects.toThrow("does not set");
});

it("policy init writes over no policy; a version it adds is in force once signed", async () => {
  const again = ["policy", "init", POLICY, "--threshold", "activate=1"];
  expect((await approvals(...again)).stderr).toContain("--next");
  expect((await approvals(...again, "--next", "-o", "json")).code).toBe(0);
  const unsigned = await approvals("policy", "verify", POLICY, "-o", "json");
  expect(unsigned).toMatchObject({ code: 1 });
  expect(unsigned.stderr).toContain("version 2 of the policy is signed by 0 of 2 approvers of version 1");
});
