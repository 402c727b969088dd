// A plugin whose clusters meet a fault of one's own KEK or PIN: only that cluster is not ready, and its name is reported.

import { writeFileSync } from "node:fs";
import { join } from "node:path";

import { afterEach, beforeAll, beforeEach, expect, it } from "vitest";

import { ClustersPlugin, type ClusterSections } from "../support/clusters-plugin.js";
import { createKek } from "../support/plugin-process.js";
import { pkcs11Tool } from "../support/softhsm.js";
import { useToken } from "../support/token-fixture.js";
import { tokenUri, type TestToken } from "../support/token.js";
import { waitFor } from "../support/wait.js";

const LONG = { timeoutMs: 50_000, intervalMs: 50 };
const SEED = Buffer.alloc(32, 7);
const COMMON = { cache: { entries: 0 } };

const softHsm = useToken({ faults: [] });
let kms: ClustersPlugin;
/** The token of cluster beta, with a PIN of its own. */
let own: TestToken;

beforeAll(() => {
  own = softHsm.token.add({ label: "own", pin: "87654321" });
  createKek(softHsm.token, "alpha");
  createKek(own, "beta");
  pkcs11Tool(softHsm.token, "--keygen", "--key-type", "AES:32", "--label", "naked", "--id", "aa");
});
beforeEach(async () => {
  kms = await ClustersPlugin.on(softHsm.front);
});
afterEach(() => kms.remove());

/** Expects that a cluster is not ready for this reason, by its name, and that alpha is served. */
async function expectOnly(name: string, reason: RegExp): Promise<void> {
  await waitFor(async () => {
    const { status, text } = await kms.get(`/readyz?cluster=${name}`);
    return status === 503 && reason.test(text);
  }, LONG);
  const all = await kms.get("/readyz");
  const named = all.text.split("\n").filter((line) => line.startsWith(`${name}: `));
  expect([all.status, named.some((line) => reason.test(line))]).toEqual([503, true]);
  expect(all.text).not.toMatch(/^alpha: /m);
  await expectAlpha();
}

async function expectAlpha(): Promise<void> {
  const sealed = await kms.client("alpha").encrypt(SEED, "other");
  expect(await kms.client("alpha").decrypt(sealed, "other")).toEqual(SEED);
  expect((await kms.get("/readyz?cluster=alpha")).status).toBe(200);
}

it("a cluster whose KEK is refused as unprotected is the only one that is not ready", async () => {
  kms.configure({ naked: {}, alpha: {} }, COMMON);
  await kms.start("alpha");
  await expectOnly("naked", /CKA_SENSITIVE is false|CKA_EXTRACTABLE is true/);
  await expect(kms.client("naked").encrypt(SEED, "refused")).rejects.toThrow(/CKA_/);
});

it("a reload with another PIN source of one cluster logs in its token only", async () => {
  const pinFile = (name: string, pin: string): string => {
    writeFileSync(join(kms.plugin.folder, name), pin, { mode: 0o600 });
    return join(kms.plugin.folder, name);
  };
  const withPin = (file: string): Record<string, ClusterSections> => ({
    alpha: {},
    beta: { keys: { uri: tokenUri({ ...own, pinFile: file }, "beta") } },
  });
  kms.configure(withPin(pinFile("first", "00000000")), COMMON);
  await kms.start("alpha");
  await expectOnly("beta", /CKR_PIN_INCORRECT/);
  const logins = softHsm.fault.calls("C_Login");

  kms.configure(withPin(join(kms.plugin.folder, "missing")), COMMON);
  await kms.reload();
  const reported = kms.plugin.log.split("\n").find((line) => line.includes("the previous PIN source stays"));
  expect(JSON.parse(reported ?? "{}")).toMatchObject({ cluster: "beta", setting: "pin" });
  await expectOnly("beta", /CKR_PIN_INCORRECT/);

  kms.configure(withPin(pinFile("second", own.pin)), COMMON);
  await kms.reload();
  await kms.serves("beta");
  const sealed = await kms.client("beta").encrypt(SEED, "u");
  expect(await kms.client("beta").decrypt(sealed, "u")).toEqual(SEED);
  await expectAlpha();
  expect(softHsm.fault.calls("C_Login")).toBe(logins);
});
