// RSA key pairs that another tool made on a token and that were cloned to a second one, both without symmetric mechanisms:
// adopted by an operator, used by an API server while either token is away, and by the etcd commands.

import { join } from "node:path";

import { afterAll, beforeAll, expect, it } from "vitest";

import type { KmsCiphertext } from "../../src/kms-client/kms-client.js";
import { runCommand } from "../support/command.js";
import { startEtcd, type TestEtcd } from "../support/etcd.js";
import { FaultModule } from "../support/fault-module.js";
import { usePlugin } from "../support/plugin-fixture.js";
import type { CommandResult } from "../support/plugin-process.js";
import { SoftHsmClone } from "../support/softhsm-clone.js";
import { pkcs11Tool } from "../support/softhsm.js";
import { newSeed, sealedValue } from "../support/stored-secrets.js";
import { tokenUri } from "../support/token.js";
import { waitFor } from "../support/wait.js";

const RSA_ONLY = "only-mechanisms 0x0,0x9,0xd,0x43";
const TOKENS = ["kms", "clone"].map((label) => `pkcs11:token=${label};object=kms-kek`);
const SEED = Buffer.alloc(32, 7);
const NAME = "/registry/secrets/one/stored";
const SECRET = "a secret value";
const WAIT = { timeoutMs: 30_000 };

let clone: FaultModule;
let etcd: TestEtcd;

const kms = usePlugin(
  {},
  {
    token: { faults: [RSA_ONLY] },
    start: false,
    prepare({ token, own }) {
      for (const usage of ["--usage-decrypt", "--usage-sign"]) {
        const pair = ["--keypairgen", "--key-type", "rsa:2048", "--label", "kms-kek", "--id", "0a"];
        pkcs11Tool(token, ...pair, usage, "--private", "--sensitive");
      }
      clone = new FaultModule(new SoftHsmClone(token, "clone"));
      clone.set(RSA_ONLY);
      own.configure({
        failover: [{ uri: tokenUri(clone, "kms-kek") }],
        hsm: { requestTimeout: "2900ms" },
        cache: { entries: 0 },
        audit: { file: join(token.folder, "audit.log") },
      });
    },
  },
);

beforeAll(async () => {
  etcd = await startEtcd();
});
afterAll(async () => {
  await etcd.remove();
  clone.remove();
});

const run = (...args: string[]): Promise<CommandResult> =>
  runCommand([...args, "--config", kms.plugin.configFile], {
    ...kms.fault.env,
    ETCDCTL_ENDPOINTS: etcd.endpoint,
  });

it("keys adopt gives both pairs a label with an instant, on both tokens", async () => {
  const { code, stdout, stderr } = await run("keys", "adopt", "@active", "-o", "json");
  expect([code, stderr]).toEqual([0, expect.anything()]);
  expect(JSON.parse(stdout)).toMatchObject({
    adopted: { label: expect.stringMatching(/^kms-kek@/) as string },
    tokens: TOKENS.map((token) => ({ token, outcome: "done" })),
  });
});

it("either token opens what the other one encrypted, and encrypts while the other is away", async () => {
  await kms.own.start();
  const opened = async (sealed: KmsCiphertext): Promise<boolean> =>
    (await kms.client.decrypt(sealed, "away")).equals(SEED);
  const both = await kms.client.encrypt(SEED, "both");
  for (const away of [kms.fault, clone]) {
    away.set(RSA_ONLY, "device-error");
    const sealed = await waitFor(() => kms.client.encrypt(SEED, "away"), { what: "an Encrypt", ...WAIT });
    expect(sealed.keyId).toBe(both.keyId);
    expect([await opened(both), await opened(sealed)]).toEqual([true, true]);
    away.set(RSA_ONLY);
    await waitFor(async () => (await kms.own.get("/readyz")).status === 200, { what: "readiness", ...WAIT });
  }
});

it("etcd verify and etcd get open an object whose DEK seed is under an RSA KEK", async () => {
  await etcd.store.putAll([[NAME, sealedValue(await newSeed(kms.plugin.socket), NAME, SECRET)]]);
  const verified = await run("etcd", "verify", "-o", "json");
  expect([verified.code, verified.stderr]).toEqual([0, expect.anything()]);
  expect(verified.stdout).not.toContain(SECRET);
  const got = await run("etcd", "get", NAME, "--break-glass", "INC-1");
  expect([got.code, got.stdout]).toEqual([0, expect.stringContaining(SECRET)]);
});
