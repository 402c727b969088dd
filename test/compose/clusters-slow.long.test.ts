// A plugin that serves many clusters on a slow token with one session: their proofs take longer than the time limit of one.

import { afterAll, beforeAll, expect, it } from "vitest";

import { ClustersPlugin, createClusterKeks } from "../support/clusters-plugin.js";
import { useToken } from "../support/token-fixture.js";
import { waitFor } from "../support/wait.js";

const NAMES = Array.from({ length: 16 }, (_, at) => `t${at}`);
const SLOW = ["C_Encrypt sleep 200", "C_Decrypt sleep 200"];

const softHsm = useToken({ faults: [] });
let kms: ClustersPlugin;

beforeAll(async () => {
  await createClusterKeks(softHsm.token, NAMES);
  kms = await ClustersPlugin.on(softHsm.front);
  kms.configure(Object.fromEntries(NAMES.map((name) => [name, {}])), {
    hsm: { hosts: 1, sessions: 1 },
    health: { proofInterval: "500ms" },
  });
  await kms.start(...NAMES);
}, 120_000);
afterAll(async () => {
  await kms.remove();
});

/** When the KEK of a cluster was last proven, in ms since the epoch. */
async function provenAt(name: string): Promise<number> {
  const { text } = await kms.get(`/keys?cluster=${name}`);
  const { keys } = JSON.parse(text) as { readonly keys: readonly { readonly provenAt: string }[] };
  return Date.parse(keys[0]?.provenAt ?? "");
}

it("each cluster's KEK is proven again and again, and no outage is reported", async () => {
  softHsm.fault.set(...SLOW);
  const slowSince = Date.now();
  for (const name of NAMES) {
    await waitFor(async () => (await provenAt(name)) > slowSince + 2_000, {
      what: `a proof of ${name} on the slow token`,
      timeoutMs: 110_000,
      intervalMs: 100,
    });
  }
  expect(kms.plugin.log).not.toContain("HSM is away");
  expect((await kms.get("/readyz")).status).toBe(200);
}, 120_000);
