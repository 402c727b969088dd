// A plugin that serves two clusters during an outage of the token that they share: without another token, and with one.

import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from "vitest";

import { ClustersPlugin } from "../support/clusters-plugin.js";
import { FaultModule } from "../support/fault-module.js";
import { createKek } from "../support/plugin-process.js";
import { useToken } from "../support/token-fixture.js";
import { tokenUri } from "../support/token.js";
import { waitFor } from "../support/wait.js";

const LONG = { timeoutMs: 50_000, intervalMs: 50 };
const NAMES = ["alpha", "beta"];
const SEED = Buffer.alloc(32, 7);
/** Every request reaches the token, and readings show soon that it is away. */
const COMMON = { cache: { entries: 0 } };
const KEYS = { refreshInterval: "200ms" };

const softHsm = useToken({ faults: [] });
let kms: ClustersPlugin;
let second: FaultModule;

beforeAll(() => {
  for (const name of NAMES) createKek(softHsm.token, name);
  second = new FaultModule(softHsm.token);
});
afterAll(() => {
  second.remove();
});
beforeEach(async () => {
  kms = await ClustersPlugin.on(softHsm.front);
});
afterEach(async () => {
  second.clear();
  await kms.remove();
});

const encryptAll = () => Promise.all(NAMES.map((name) => kms.client(name).encrypt(SEED, "outage")));
const isReady = async (name: string): Promise<boolean> =>
  (await kms.get(`/readyz?cluster=${name}`)).status === 200;
const tokensFailOver = (name: string) => ({
  keys: KEYS,
  failover: [{ uri: tokenUri(second, name) }],
});

it.each(["token-removed", "device-error"])(
  "%s: all clusters report the lost token, and serve again after it without a restart",
  async (fault) => {
    kms.configure({ alpha: { keys: KEYS }, beta: { keys: KEYS } }, COMMON);
    await kms.start(...NAMES);
    const { pid } = kms.plugin;
    const sealed = await encryptAll();
    softHsm.fault.set(fault);
    for (const name of NAMES) {
      await waitFor(async () => !(await isReady(name)), { ...LONG, what: `${name} to be reported` });
      await expect(kms.client(name).encrypt(SEED, "away")).rejects.toThrow(/^UNAVAILABLE/);
    }
    expect((await kms.get("/livez")).status).toBe(200);
    softHsm.fault.clear();
    for (const [at, name] of NAMES.entries()) {
      await waitFor(() => isReady(name), { ...LONG, what: `${name} to be ready again` });
      const one = sealed[at];
      if (one === undefined) throw new Error(`${name} has no ciphertext`);
      expect(await kms.client(name).decrypt(one, "back")).toEqual(SEED);
      expect((await kms.client(name).encrypt(SEED, "back")).keyId).toBe(one.keyId);
    }
    expect([kms.plugin.running, kms.plugin.pid]).toEqual([true, pid]);
  },
);

it.each(["token-removed", "device-error"])(
  "%s: all clusters continue with the second token, and with the first when it is back",
  async (fault) => {
    kms.configure({ alpha: tokensFailOver("alpha"), beta: tokensFailOver("beta") }, COMMON);
    await kms.start(...NAMES);
    const sealed = await encryptAll();
    softHsm.fault.set(fault);
    for (const [at, name] of NAMES.entries()) {
      const own = sealed[at];
      if (own === undefined) throw new Error(`${name} has no ciphertext`);
      const client = kms.client(name);
      const during = await waitFor(() => client.encrypt(SEED, "failover"), LONG);
      expect(during.keyId).toBe(own.keyId);
      for (const one of [own, during]) expect(await client.decrypt(one, "failover")).toEqual(SEED);
      const other = sealed[1 - at];
      if (other === undefined) throw new Error("the other cluster has no ciphertext");
      await expect(client.decrypt(other, "failover")).rejects.toThrow(/^(NOT_FOUND|DEADLINE)/);
      expect(await isReady(name)).toBe(true);
    }
    softHsm.fault.clear();
    second.set(fault);
    for (const name of NAMES) await waitFor(() => kms.client(name).encrypt(SEED, "back"), LONG);
  },
);
