// One key value under the names of two clusters, as after a copy or a cloned token that was given to a second cluster: the
// cluster that uses it keeps it, whatever is restarted, reloaded, rotated or destroyed.

import { afterEach, beforeEach, expect, it } from "vitest";

import { ClustersPlugin } from "../support/clusters-plugin.js";
import { runCommand } from "../support/command.js";
import { Pkcs11Client } from "../support/pkcs11-client.js";
import { createSoftHsm, makePlainKey, type SoftHsm } from "../support/softhsm.js";
import { waitFor } from "../support/wait.js";

const SEED = Buffer.alloc(32, 7);
const WAIT = { timeoutMs: 50_000, intervalMs: 50 };
const own = { keys: { refreshInterval: "200ms" } };

let token: SoftHsm;
let kms: ClustersPlugin;

beforeEach(async () => {
  token = createSoftHsm();
  makePlainKey(token, "tenant", "aa");
  kms = await ClustersPlugin.on(token);
});
afterEach(async () => {
  await kms.remove();
  token.remove();
});

/** Copies the KEK on the token, under the name of another cluster. */
const copyKek = (to: string): Promise<void> => changeLabel(to, false);

/** Gives the KEK the name of another cluster. */
const relabel = (to: string): Promise<void> => changeLabel(to, true);

async function changeLabel(to: string, isMoved: boolean): Promise<void> {
  const child = new Pkcs11Client(token);
  await child.open();
  await child.run(
    ({ p11, module, state }, { to, isMoved }) => {
      module.C_FindObjectsInit(state.session, [{ type: p11.CKA_LABEL, value: "tenant" }]);
      const [key = Buffer.alloc(0)] = module.C_FindObjects(state.session, 1);
      module.C_FindObjectsFinal(state.session);
      const label = [{ type: p11.CKA_LABEL, value: to }];
      if (isMoved) module.C_SetAttributeValue(state.session, key, label);
      else module.C_CopyObject(state.session, key, label);
    },
    { to, isMoved },
  );
  await child.kill();
}

const refusal = async (name: string): Promise<string> => (await kms.get(`/readyz?cluster=${name}`)).text;

it("a cluster keeps its KEK at a restart although one before it has a copy", async () => {
  kms.configure({ tenant: own });
  await kms.start("tenant");
  const sealed = await kms.client("tenant").encrypt(SEED, "u");
  await copyKek("another");
  kms.configure({ another: own, tenant: own });
  await kms.reload();
  await waitFor(async () => (await refusal("another")).includes("is the KEK of cluster tenant too"), WAIT);
  await kms.plugin.stop();
  await kms.start("tenant");
  expect(await kms.client("tenant").decrypt(sealed, "u")).toEqual(SEED);
  await waitFor(async () => (await refusal("another")).includes("is the KEK of cluster tenant too"), WAIT);
  await expect(kms.client("another").decrypt(sealed, "u")).rejects.toThrow();
});

it("a cluster that a reload opens again keeps its KEK although another has a copy", async () => {
  await copyKek("another");
  kms.configure({ tenant: own, another: own });
  await kms.start("tenant");
  const sealed = await kms.client("tenant").encrypt(SEED, "u");
  await waitFor(async () => (await refusal("another")).includes("is the KEK of cluster tenant too"), WAIT);
  for (const requests of [8, 9, 10, 11]) {
    kms.configure({ tenant: { ...own, requests }, another: own });
    await kms.reload();
    await kms.serves("tenant");
  }
  expect(await kms.client("tenant").decrypt(sealed, "u")).toEqual(SEED);
  await expect(kms.client("another").decrypt(sealed, "u")).rejects.toThrow();
});

it("a cluster that cannot be opened keeps its KEK although another one has a copy", async () => {
  kms.configure({ tenant: own });
  await kms.start("tenant");
  const sealed = await kms.client("tenant").encrypt(SEED, "u");
  await kms.plugin.stop();
  await copyKek("another");
  const blocked = { ...own, socket: { path: "/nonexistent/kms.sock" } };
  makePlainKey(token, "third", "bb");
  kms.configure({ another: own, tenant: blocked, third: own });
  await kms.start("third");
  await waitFor(async () => (await refusal("another")).includes("is the KEK of cluster tenant too"), WAIT);
  await expect(kms.client("another").decrypt(sealed, "u")).rejects.toThrow();
  kms.configure({ another: own, tenant: own, third: own });
  await kms.reload();
  await kms.serves("tenant");
  expect(await kms.client("tenant").decrypt(sealed, "u")).toEqual(SEED);
});

it("a KEK whose label was changed while the plugin was stopped follows it", async () => {
  kms.configure({ another: own, tenant: own });
  await kms.start("tenant");
  const sealed = await kms.client("tenant").encrypt(SEED, "u");
  await kms.plugin.stop();
  await relabel("another");
  await kms.start("another");
  expect(await kms.client("another").decrypt(sealed, "u")).toEqual(SEED);
});

it("keys destroy of a copy leaves the KEK of the cluster that uses it", async () => {
  await copyKek("another");
  kms.configure({ tenant: own, another: own });
  await kms.start("tenant");
  const sealed = await kms.client("tenant").encrypt(SEED, "u");
  const keys = async (...args: readonly string[]): Promise<void> => {
    const command = ["keys", ...args, "--cluster", "another", "--config", kms.plugin.configFile];
    expect(await runCommand(command, token.env)).toMatchObject({ code: 0 });
  };
  await keys("rotate", "--activate-in", "5s");
  await kms.serves("another");
  await keys("destroy", sealed.keyId, "--i-understand-data-is-lost", sealed.keyId);
  await waitFor(async () => (await kms.get("/readyz")).status === 200, WAIT);
  expect(await kms.client("tenant").decrypt(sealed, "u")).toEqual(SEED);
  await kms.plugin.stop();
  await kms.start("tenant", "another");
  expect(await kms.client("tenant").decrypt(sealed, "u")).toEqual(SEED);
  await expect(kms.client("another").decrypt(sealed, "u")).rejects.toThrow();
});
