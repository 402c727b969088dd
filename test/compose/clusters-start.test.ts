// The start of a plugin that serves several clusters on one token: what concerns the token is done once, not for each of
// them. Calls are counted, since their number is what a slow token's users wait for.

import { afterAll, beforeAll, expect, it } from "vitest";

import { ClustersPlugin, createClusterKeks } from "../support/clusters-plugin.js";
import { useToken } from "../support/token-fixture.js";

const NAMES = Array.from({ length: 8 }, (_, at) => `t${at}`);
const COUNTED = ["C_FindObjectsInit", "C_Decrypt", "C_OpenSession"] as const;

const softHsm = useToken({ faults: [] });
let kms: ClustersPlugin;
/** The calls of the start. */
const made = new Map<string, number>();

beforeAll(async () => {
  await createClusterKeks(softHsm.token, NAMES);
  kms = await ClustersPlugin.on(softHsm.front);
  kms.configure(Object.fromEntries(NAMES.map((name) => [name, {}])));
  const before = COUNTED.map((name) => softHsm.fault.calls(name));
  await kms.start(...NAMES);
  COUNTED.forEach((name, at) => made.set(name, softHsm.fault.calls(name) - (before[at] ?? 0)));
});
afterAll(() => kms.remove());

it("the token is read once for all clusters, whichever has been opened by then", () => {
  // One search for secret keys and one for private keys.
  expect(made.get("C_FindObjectsInit")).toBe(2);
});

it("how the token performs AES-GCM is found with one KEK, and only confirmed with the others", () => {
  // For each: the trial, a round trip with one refusal, a verified canary, and its decryption. SoftHSM needs two
  // decryptions to refuse.
  expect(made.get("C_Decrypt")).toBeLessThanOrEqual(20 + 6 * (NAMES.length - 1));
  expect(made.get("C_OpenSession")).toBeLessThanOrEqual(20 + 2 * (NAMES.length - 1));
});
