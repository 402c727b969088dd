// `approvals deliver --nodes`: through a real sshd to nodes, whose plugins are asked afterwards.

import { chmodSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { afterAll, beforeAll, expect, it } from "vitest";

import { deliverToNodes } from "../../../src/admin/approval-rollout.js";
import { digestOf } from "../../../src/approvals/canonical-json.js";
import { formatChain } from "../../../src/approvals/policy-chain.js";
import { formatApproval } from "../../../src/approvals/proposal.js";
import { parseNodeAddresses } from "../../../src/config/node-address.js";
import { approvalBy, policyOf, signedBy } from "../../support/approvers.js";
import { runCommand } from "../../support/command.js";
import { ACTIVE, FakeNodes, standby } from "../../support/fake-nodes.js";
import { MAIN, type CommandResult } from "../../support/plugin-process.js";
import { Sshd } from "../../support/sshd.js";
import { makeFolder } from "../../support/token.js";

const folder = makeFolder("deliver");
const file = (name: string): string => join(folder, name);
const nodes = new FakeNodes();
let sshd: Sshd;

beforeAll(async () => {
  const policy = policyOf();
  writeFileSync(file("policy.json"), formatChain([signedBy(policy, "alice", "bob")]));
  mkdirSync(file("state"), { mode: 0o700 });
  const config = {
    apiVersion: "kms-pkcs11.dev/v1",
    kind: "PluginConfiguration",
    keys: { uri: "pkcs11:token=kms;object=kms-kek?module-path=/usr/lib/none.so" },
    stateDir: file("state"),
    approvals: { policy: file("policy.json"), root: digestOf(policy) },
  };
  writeFileSync(file("config.yaml"), JSON.stringify(config), { mode: 0o600 });
  // What the node's PATH and /etc have on a real node.
  const program = `#!/bin/sh\nexport KMS_PKCS11_CONFIG=${file("config.yaml")}\nexec ${process.execPath} ${MAIN} "$@"\n`;
  writeFileSync(file("kms-pkcs11"), program);
  chmodSync(file("kms-pkcs11"), 0o755);
  sshd = await Sshd.start(`SetEnv PATH=${folder}:/usr/bin:/bin`);
});
afterAll(() => {
  sshd.stop();
  nodes.close();
});

const deliver = (name: string, ...addresses: string[]): Promise<CommandResult> =>
  runCommand(["approvals", "deliver", file(name), "--nodes", addresses.join(","), "--output", "json"], {
    PATH: sshd.path,
  });
const portOf = (url: URL): string => url.port;

it("approvals deliver --nodes stores an approval through ssh, and asks each plugin", async () => {
  const now = Date.now();
  writeFileSync(file("a.json"), formatApproval(approvalBy(["olga", "alice", "bob"], {}, now)));
  const key = { ...standby("k10"), notApproved: null };
  const ready = await nodes.node({ keys: [key, ACTIVE] });
  const lacking = await nodes.node({
    keys: [{ ...key, notApproved: "no approval by 2 people has been delivered to this node" }, ACTIVE],
  });
  const { code, stdout } = await deliver("a.json", sshd.node(portOf(ready)), lacking.href);
  expect(JSON.parse(stdout)).toMatchObject({
    keyId: "k10",
    nodes: [
      { delivered: true, approved: true, problem: null },
      {
        delivered: false,
        approved: false,
        problem: expect.stringMatching(/no approval by 2 people.*approvals deliver - < FILE/) as string,
      },
    ],
  });
  expect(code).toBe(1);
  expect(readdirSync(file("state")).filter((name) => name.startsWith("approval-"))).toHaveLength(1);
});

const ID = "0193.c0123456789abcdef0123456789abcdef";
const ROGUE = "0193.cffffffffffffffffffffffffffffffff";

it("approvals deliver --nodes takes no other KEK with the same label for the approved one", async () => {
  const approval = approvalBy(["olga", "alice", "bob"], { keyId: ID }, Date.now());
  const { label } = approval.proposal;
  const listing = (keyId: string): Promise<URL> =>
    nodes.node({ keys: [{ ...standby(keyId), label, notApproved: null }, ACTIVE] });
  const sameByAnotherMethod = "0193.gffffffffffffffffffffffffffffffff";
  const urls = [await listing(ROGUE), await listing(sameByAnotherMethod)];
  const [rogue, same] = await deliverToNodes(urls, approval);
  expect(rogue).toMatchObject({ isApproved: null, problem: expect.stringContaining(ROGUE) as string });
  expect(same).toMatchObject({ isApproved: true, problem: null });
});

it("approvals deliver --nodes ends in time though a process of ssh keeps its output open", async () => {
  const bin = file("bin");
  mkdirSync(bin);
  const left = file("left");
  writeFileSync(join(bin, "ssh"), `#!/bin/sh\nsleep 600 &\necho $! >${left}\nwait\n`, { mode: 0o755 });
  const [node] = parseNodeAddresses(["ssh://root@cp-1"]);
  if (node === undefined) throw new Error("no address");
  const path = process.env["PATH"];
  process.env["PATH"] = `${bin}:${path}`;
  try {
    const [delivery] = await deliverToNodes([node], approvalBy(["olga"]), { deliveryMs: 500 });
    expect(delivery).toMatchObject({ isDelivered: false, problem: "no answer in time" });
  } finally {
    process.env["PATH"] = path;
    process.kill(Number(readFileSync(left, "utf8")));
  }
});

it("approvals deliver --nodes reports why a node refuses an approval", async () => {
  writeFileSync(file("b.json"), formatApproval(approvalBy(["olga", "alice"], {}, Date.now())));
  const { code, stdout } = await deliver("b.json", sshd.node(1));
  const [node] = (JSON.parse(stdout) as { nodes: { delivered: boolean; problem: string }[] }).nodes;
  expect([code, node?.delivered]).toEqual([1, false]);
  expect(node?.problem).toMatch(/1 signed \(alice\)/);
});
