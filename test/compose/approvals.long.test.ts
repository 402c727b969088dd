// Three running plugins with a policy, on a real token, with the real ssh-keygen: two of three people approve a rotation,
// and a KEK that somebody made with the PIN and pkcs11-tool is activated by no node.

import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";

import { beforeAll, expect, it } from "vitest";

import { digestOf } from "../../src/approvals/canonical-json.js";
import { parseChain } from "../../src/approvals/policy-chain.js";
import type { KmsCiphertext } from "../../src/kms-client/kms-client.js";
import { labelOf } from "../../src/provider/kek-label.js";
import { runCommand } from "../support/command.js";
import { usePlugin } from "../support/plugin-fixture.js";
import type { CommandResult } from "../support/plugin-process.js";
import type { ReachablePlugin } from "../support/reachable-plugin.js";
import { makePlainKey } from "../support/softhsm.js";
import { makeFolder } from "../support/token.js";
import { waitFor } from "../support/wait.js";

const OFTEN = {
  keys: { refreshInterval: "500ms" },
  health: { proofInterval: "500ms" },
  hsm: { hosts: 1, requestTimeout: "2900ms" },
};
const LONG = { timeoutMs: 30_000, intervalMs: 100 };
const SEED = Buffer.alloc(32, 7);
const PEOPLE = ["alice", "bob", "carol"];

const kms = usePlugin(OFTEN);
const folder = makeFolder("approvers");
const file = (name: string): string => join(folder, name);
const matching = (pattern: RegExp): string => expect.stringMatching(pattern) as string;

interface Report {
  readonly heldBack: string | null;
  readonly keys: readonly {
    readonly keyId: string;
    readonly label: string;
    readonly notApproved: string | null;
  }[];
}

const report = async (node: ReachablePlugin): Promise<Report> =>
  (await (await node.get("/keys")).json()) as Report;
const published = async (node: ReachablePlugin): Promise<string> => (await node.client.status()).keyId;
const approvals = async (...args: string[]): Promise<CommandResult> => runCommand(["approvals", ...args]);
const signedBy = (who: string): string[] => ["--identity", file(who), "--yes"];
const deliver = (node: ReachablePlugin): Promise<CommandResult> =>
  approvals("deliver", file("activate.json"), "--config", node.plugin.configFile);

/** Repeated, as an API server does, if a busy machine does not answer in time. */
const encrypt = (node: ReachablePlugin): Promise<KmsCiphertext> =>
  waitFor(() => node.client.encrypt(SEED, "test"), LONG);
const decrypt = (node: ReachablePlugin, one: KmsCiphertext): Promise<Buffer> =>
  waitFor(() => node.client.decrypt(one, "test"), LONG);

/** Waits until every node has seen a label, and returns its key_id. */
async function seenBy(nodes: readonly ReachablePlugin[], label: string): Promise<string> {
  let keyId: string | undefined;
  for (const node of nodes) {
    await waitFor(async () => {
      keyId = (await report(node)).keys.find((key) => key.label === label)?.keyId;
      return keyId !== undefined;
    }, LONG);
  }
  return keyId ?? "";
}

let inUse: string;
let settings: object;

beforeAll(async () => {
  inUse = await published(kms.own);
  for (const name of [...PEOPLE, "olga"]) {
    execFileSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", file(name)]);
  }
  const path = file("policy.json");
  const people = PEOPLE.flatMap((name) => ["--approver", `${name}=${file(`${name}.pub`)}`]);
  const thresholds = ["--threshold", "policy=2", "--threshold", "activate=2"];
  const init = ["--cluster", "prod-1", ...people, "--requester", `olga=${file("olga.pub")}`, ...thresholds];
  expect(await approvals("policy", "init", path, ...init, "--kek-in-use", inUse)).toMatchObject({ code: 0 });
  for (const name of ["alice", "carol"]) await approvals("policy", "sign", path, ...signedBy(name));
  expect(await approvals("policy", "verify", path)).toMatchObject({ code: 0 });
  const [first] = parseChain(readFileSync(path, "utf8")).versions;
  settings = { ...OFTEN, approvals: { policy: path, root: digestOf(first?.policy) } };
  await kms.own.restart(settings as never);
});

it("three nodes activate a KEK with 2 of 3 approvals, and never one that pkcs11-tool made", async () => {
  const others = [await kms.add(settings as never), await kms.add(settings as never)] as const;
  await Promise.all(others.map((node) => node.start()));
  const nodes = [kms.own, ...others];
  const last = others[1];
  const sealed = await encrypt(kms.own);
  expect(await Promise.all(nodes.map(published))).toEqual([inUse, inUse, inUse]);

  const rogueLabel = labelOf("kms-kek", Math.ceil(Date.now() / 1000) * 1000);
  makePlainKey(kms.token, rogueLabel, "aa");
  const rogue = await seenBy(nodes, rogueLabel);
  for (const node of nodes) {
    await waitFor(async () => (await report(node)).heldBack !== null, LONG);
    const { healthz, keyId } = await node.client.status();
    expect({ healthz, keyId }).toEqual({
      keyId: inUse,
      healthz: matching(/is due but not activated: no approval by 2 people/),
    });
    expect((await encrypt(node)).keyId).toBe(inUse);
  }
  expect(await (await kms.own.get("/readyz")).text()).toContain("no approval by 2 people");
  expect(await kms.own.metric("kek_held_back")).toBe(1);

  const rotate = [
    "keys",
    "rotate",
    "--config",
    kms.plugin.configFile,
    "--activate-in",
    "2s",
    "--output",
    "json",
  ];
  const rotation = await runCommand(rotate, kms.token.env);
  expect(rotation).toMatchObject({
    code: 0,
    stderr: matching(/until 2 people have approved its activation/),
  });
  const { created } = JSON.parse(rotation.stdout) as { created: { keyId: string; label: string } };
  await seenBy(nodes, created.label);

  const what = ["--operation", "activate", "--kek", created.keyId, "--label", created.label];
  const who = ["--token", kms.token.label, "--proposer", "olga", "--reason", "rotation", ...signedBy("olga")];
  const place = ["--policy", file("policy.json")];
  expect(await approvals("propose", file("activate.json"), ...place, ...what, ...who)).toMatchObject({
    code: 0,
  });
  await approvals("sign", file("activate.json"), ...place, ...signedBy("bob"));
  expect(await deliver(kms.own)).toMatchObject({ code: 1, stderr: matching(/1 signed \(bob\)/) });
  await approvals("sign", file("activate.json"), ...place, ...signedBy("carol"));

  for (const node of [kms.own, others[0]]) {
    expect(await deliver(node)).toMatchObject({ code: 0 });
    await waitFor(async () => (await published(node)) === created.keyId, LONG);
    expect(await decrypt(node, sealed)).toEqual(SEED);
  }
  expect(await published(last)).toBe(inUse);
  const after = await encrypt(others[0]);
  expect(await decrypt(last, after)).toEqual(SEED);
  const list = ["keys", "list", "--config", last.plugin.configFile, "--output", "json"];
  const listed = JSON.parse((await runCommand(list, kms.token.env)).stdout) as {
    keys: { keyId: string; approved: boolean }[];
  };
  expect(Object.fromEntries(listed.keys.map(({ keyId, approved }) => [keyId, approved]))).toEqual({
    [inUse]: true,
    [rogue]: false,
    [created.keyId]: false,
  });
  expect(await deliver(last)).toMatchObject({ code: 0 });
  await waitFor(async () => (await published(last)) === created.keyId, LONG);
  for (const node of nodes) {
    const refused = (await report(node)).keys.filter(({ notApproved }) => notApproved !== null);
    expect(refused.map(({ keyId }) => keyId)).toEqual([rogue]);
    expect((await node.client.status()).healthz).toBe("ok");
  }
});
