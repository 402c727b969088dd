// A KEK whose label is changed from one served cluster's name to another's, and reloads that come in a row or name a socket
// that is in use.

import { randomBytes } from "node:crypto";

import { afterAll, beforeAll, expect, it } from "vitest";

import { ClustersPlugin } from "../support/clusters-plugin.js";
import { childrenOf, createKek } from "../support/plugin-process.js";
import { makePlainKey } from "../support/softhsm.js";
import { openToken } from "../support/token-hsm.js";
import { useToken } from "../support/token-fixture.js";
import { waitFor } from "../support/wait.js";

const NAMES = ["alpha", "beta"];
const WAIT = { timeoutMs: 50_000, intervalMs: 50 };
const RELOADS = 100;

const softHsm = useToken();
let kms: ClustersPlugin;
let other: ClustersPlugin;

const keys = { refreshInterval: "500ms" };
const configure = (more: Parameters<ClustersPlugin["configure"]>[0] = {}): void => {
  kms.configure({ alpha: { keys }, beta: { keys }, ...more });
};

beforeAll(async () => {
  // The labels of keys that the plugin makes cannot be changed.
  makePlainKey(softHsm.token, "alpha", "aa");
  for (const name of ["beta", "gamma"]) createKek(softHsm.token, name);
  kms = await ClustersPlugin.on(softHsm.token);
  configure();
  await kms.start(...NAMES);
  other = await ClustersPlugin.on(softHsm.token);
});
afterAll(async () => {
  await kms.remove();
  await other.remove();
});

const keyIdsOf = async (name: string): Promise<string[]> => {
  const { text } = await kms.get(`/keys?cluster=${name}`);
  return (JSON.parse(text) as { keys: { keyId: string }[] }).keys.map(({ keyId }) => keyId);
};

it("many reloads in a row leave every cluster served, on the same token host", async () => {
  const hosts = childrenOf(kms.plugin.pid ?? 0);
  const sealed = await kms.client("alpha").encrypt(randomBytes(32), "u");
  for (let reload = 0; reload < RELOADS; reload++) {
    configure(reload % 2 === 0 ? { gamma: { keys } } : {});
    process.kill(kms.plugin.pid ?? NaN, "SIGHUP");
    expect(await kms.client("alpha").decrypt(sealed, "u")).toHaveLength(32);
  }
  configure({ gamma: { keys } });
  await kms.reload();
  for (const name of [...NAMES, "gamma"]) await kms.serves(name);
  expect(childrenOf(kms.plugin.pid ?? 0)).toEqual(hosts);
  await waitFor(async () => (await kms.get("/readyz")).status === 200, WAIT);
});

it("a cluster whose socket another plugin serves is reported, and that plugin keeps it", async () => {
  other.configure({ gamma: {} });
  await other.start("gamma");
  configure({ gamma: { keys, socket: { path: other.socketOf("gamma") } } });
  await kms.reload();
  const { status, text } = await kms.get("/readyz");
  expect([status, text]).toEqual([
    503,
    expect.stringMatching(/^gamma: .*is in use: a KMS plugin answers there/m),
  ]);
  for (const name of NAMES) expect((await kms.client(name).status()).healthz).toBe("ok");
  await other.client("gamma").encrypt(randomBytes(32), "u");
  configure();
  await kms.reload();
});

it("a KEK follows its label from one served cluster to another", async () => {
  const sealed = await kms.client("alpha").encrypt(randomBytes(32), "u");
  const { keyId } = sealed;
  const { hsm } = openToken(softHsm.token, { objectName: "alpha", hosts: 1 });
  hsm.setKeks({ objectName: "alpha", others: [{ objectName: "beta" }] });
  await hsm.listKeks();
  await hsm.relabel(keyId, "beta@20260102T000000Z");
  await hsm.stop(1_000);
  await waitFor(async () => (await keyIdsOf("beta")).includes(keyId), { ...WAIT, what: "the KEK at beta" });
  await waitFor(async () => !(await keyIdsOf("alpha")).includes(keyId), {
    ...WAIT,
    what: "its loss at alpha",
  });
  expect(await kms.client("beta").decrypt(sealed, "u")).toHaveLength(32);
  await expect(kms.client("alpha").encrypt(randomBytes(32), "u")).rejects.toThrow();
  expect((await kms.get("/readyz?cluster=beta")).text).not.toContain("is the KEK of cluster");
});
