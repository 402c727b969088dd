// The life of a KEK of one of two clusters on one token, by commands beside the running plugin: what they do to one
// cluster never touches the other.

import { afterAll, beforeAll, expect, it } from "vitest";

import type { KmsCiphertext } from "../../../src/kms-client/kms-client.js";
import { ClustersPlugin } from "../../support/clusters-plugin.js";
import { runCommand } from "../../support/command.js";
import type { CommandResult } from "../../support/plugin-process.js";
import { useToken } from "../../support/token-fixture.js";
import { tokenUri } from "../../support/token.js";
import { waitFor } from "../../support/wait.js";

const LONG = { timeoutMs: 60_000, intervalMs: 50 };
const SEED = Buffer.alloc(32, 7);
const LOST = "--i-understand-data-is-lost";

interface ListedKey {
  readonly keyId: string;
  readonly label: string;
  readonly state: string;
}

const softHsm = useToken();
let kms: ClustersPlugin;
let sealedByBeta: KmsCiphertext;

beforeAll(async () => {
  kms = await ClustersPlugin.on(softHsm.token);
  const keys = { refreshInterval: "200ms" };
  kms.configure({ alpha: { keys }, beta: { keys } }, { cache: { entries: 0 } });
});
afterAll(() => kms.remove());

function keys(...args: readonly string[]): Promise<CommandResult> {
  return runCommand(["keys", ...args, "--config", kms.plugin.configFile, "-o", "json"], softHsm.token.env);
}

async function list(cluster: string): Promise<ListedKey[]> {
  const { code, stdout, stderr } = await keys("list", "--cluster", cluster);
  expect([code, stderr]).toEqual([0, ""]);
  const listed = (JSON.parse(stdout) as { keys: ListedKey[] }).keys;
  return listed.map(({ keyId, label, state }) => ({ keyId, label, state }));
}

const keyIdOf = async (cluster: string): Promise<string> => (await kms.client(cluster).status()).keyId;

/** Expects that beta's KEK is the only one that it ever had, and serves. */
async function expectBetaUntouched(): Promise<void> {
  expect(await list("beta")).toEqual([
    { keyId: sealedByBeta.keyId, label: expect.stringMatching(/^beta@/) as string, state: "active" },
  ]);
  expect(await keyIdOf("beta")).toBe(sealedByBeta.keyId);
  expect(await kms.client("beta").decrypt(sealedByBeta, "read")).toEqual(SEED);
  expect((await kms.get("/readyz?cluster=beta")).status).toBe(200);
}

it("keys create --cluster makes the first KEK of that cluster only", async () => {
  expect((await keys("create", "--cluster", "beta")).code).toBe(0);
  expect((await keys("create", "--cluster", "alpha")).code).toBe(0);
  await kms.start("alpha", "beta");
  sealedByBeta = await kms.client("beta").encrypt(SEED, "seal");
  expect(await list("alpha")).toEqual([
    { keyId: await keyIdOf("alpha"), label: expect.stringMatching(/^alpha@/) as string, state: "active" },
  ]);
  await expectBetaUntouched();
});

it("keys destroy refuses while another configuration's cluster uses the KEK, given its node", async () => {
  const other = await ClustersPlugin.on(softHsm.token);
  const own = { uri: tokenUri(softHsm.token, "alpha"), refreshInterval: "200ms" };
  other.configure({ gamma: { keys: own } });
  await other.start("gamma");
  const first = await keyIdOf("alpha");
  const rotation = await keys("rotate", "--cluster", "alpha", "--activate-in", "5s");
  const { keyId } = (JSON.parse(rotation.stdout) as { created: ListedKey }).created;
  await waitFor(async () => (await keyIdOf("alpha")) === keyId, { ...LONG, what: "the new KEK of alpha" });
  const nodes = `http://${kms.address},http://${other.address}/?cluster=gamma`;
  const destroy = ["destroy", first, "--cluster", "alpha", LOST, first, "--nodes", nodes];
  const refused = await keys(...destroy);
  expect([refused.code, refused.stderr]).toEqual([
    1,
    expect.stringMatching(/cluster=gamma: .* is active there.* nothing was destroyed/) as string,
  ]);
  await waitFor(async () => (await other.client("gamma").status()).keyId === keyId, LONG);
  expect((await keys(...destroy)).code).toBe(0);
  await other.remove();
});

it("keys rotate and keys destroy --cluster replace the KEK of that cluster only", async () => {
  const first = await keyIdOf("alpha");
  const rotation = await keys("rotate", "--cluster", "alpha", "--activate-in", "5s");
  expect([rotation.code, rotation.stdout]).toEqual([0, expect.stringContaining("alpha@") as string]);
  const { keyId } = (JSON.parse(rotation.stdout) as { created: ListedKey }).created;
  await waitFor(async () => (await keyIdOf("alpha")) === keyId, { ...LONG, what: "the new KEK of alpha" });
  expect((await kms.client("alpha").encrypt(SEED, "rotated")).keyId).toBe(keyId);
  await expectBetaUntouched();

  expect((await list("alpha")).map((one) => [one.keyId, one.state])).toEqual(
    expect.arrayContaining([
      [first, "retired"],
      [keyId, "active"],
    ]),
  );
  const destruction = await keys("destroy", first, "--cluster", "alpha", LOST, first);
  expect([destruction.code, destruction.stderr]).toEqual([0, expect.any(String)]);
  expect((await list("alpha")).map((one) => one.keyId)).toEqual([keyId]);
  await expectBetaUntouched();
});

it("keys destroy refuses the KEK of another cluster, and every command a missing --cluster", async () => {
  const { keyId } = sealedByBeta;
  const foreign = await keys("destroy", keyId, "--cluster", "alpha", LOST, keyId);
  expect(foreign.code).not.toBe(0);
  expect(foreign.stderr).toContain(keyId);
  for (const args of [["create"], ["rotate"], ["list"], ["destroy", keyId, LOST, keyId]]) {
    const refused = await keys(...args);
    expect([refused.code, refused.stderr]).toEqual([2, expect.stringContaining("alpha, beta") as string]);
  }
  await expectBetaUntouched();
});
