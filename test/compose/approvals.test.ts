// A running plugin with a policy, on a real token: the KEK in use stays, a KEK that somebody made with the PIN is not
// activated, and an approved one is.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { expect, it } from "vitest";

import { digestOf } from "../../src/approvals/canonical-json.js";
import { formatSecond } from "../../src/approvals/document.js";
import { formatChain } from "../../src/approvals/policy-chain.js";
import { formatApproval } from "../../src/approvals/proposal.js";
import { labelOf } from "../../src/provider/kek-label.js";
import { approvalBy, policyOf, signedBy } from "../support/approvers.js";
import { runCommand } from "../support/command.js";
import { usePlugin } from "../support/plugin-fixture.js";
import { MAIN } from "../support/plugin-process.js";
import { makePlainKey } from "../support/softhsm.js";
import { waitFor } from "../support/wait.js";

const OFTEN = { keys: { refreshInterval: "200ms" }, health: { proofInterval: "200ms" } };
const LONG = { timeoutMs: 30_000, intervalMs: 50 };
const SEED = Buffer.alloc(32, 7);

const kms = usePlugin(OFTEN);

interface Report {
  readonly heldBack: string | null;
  readonly keys: readonly { readonly keyId: string; readonly label: string; readonly state: string }[];
}

const report = async (): Promise<Report> => (await (await kms.own.get("/keys")).json()) as Report;

it("a plugin activates a KEK only with the quorum, and never gives up the one in use", async () => {
  const inUse = (await kms.client.status()).keyId;
  const sealed = await kms.client.encrypt(SEED, "before");
  const policy = policyOf();
  const path = join(kms.plugin.folder, "policy.json");
  writeFileSync(path, formatChain([signedBy(policy, "alice", "bob")]));
  await kms.own.restart({ ...OFTEN, approvals: { policy: path, root: digestOf(policy) } });
  expect(await kms.client.status()).toMatchObject({ healthz: "ok", keyId: inUse });

  const activation = Math.ceil(Date.now() / 1000) * 1000;
  const label = labelOf("kms-kek", activation);
  makePlainKey(kms.token, label, "aa");
  await waitFor(async () => (await report()).heldBack !== null, LONG);
  const { healthz, keyId } = await kms.client.status();
  expect(keyId).toBe(inUse);
  expect(healthz).toMatch("is due but not activated: no approval by 2 people");
  expect(await (await kms.own.get("/readyz")).text()).toContain("no approval by 2 people");
  expect(await (await kms.own.get("/metrics")).text()).toMatch(/^kms_pkcs11_kek_held_back 1$/m);
  expect((await kms.client.encrypt(SEED, "meanwhile")).keyId).toBe(inUse);

  const made = (await report()).keys.find((key) => key.label === label)?.keyId ?? "";
  const file = join(kms.plugin.folder, "approval.json");
  const changes = { keyId: made, label, activation: formatSecond(activation) ?? "", token: kms.token.label };
  const deliver = () => runCommand(["approvals", "deliver", file, "--config", kms.plugin.configFile]);
  writeFileSync(file, formatApproval(approvalBy(["olga", "alice"], changes, activation)));
  expect(await deliver()).toMatchObject({
    code: 1,
    stderr: expect.stringContaining("1 signed (alice)") as string,
  });
  writeFileSync(file, formatApproval(approvalBy(["olga", "alice", "bob"], changes, activation)));
  expect(await deliver()).toMatchObject({ code: 0 });
  await waitFor(async () => (await kms.client.status()).keyId === made, LONG);
  expect(await kms.client.status()).toMatchObject({ healthz: "ok" });
  expect(await kms.client.decrypt(sealed, "after")).toEqual(SEED);
});

it("no code of approvals is loaded with the plugin; only a policy loads it", () => {
  const bundle = readFileSync(MAIN.replace("main.js", "cli/serve.js"), "utf8");
  expect(bundle).toContain("// module provider/active-key.js");
  expect(bundle).not.toContain("// module approvals/");
});
