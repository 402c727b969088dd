// A retired KEK from which an operator takes the right to encrypt, on a real token: its key_id changes, since the HSM computed
// the fingerprint by encrypting. The plugin goes on decrypting what is stored, and no command takes the KEK for unused.

import { expect, it } from "vitest";

import type { KmsCiphertext } from "../../src/kms-client/kms-client.js";
import { formatStoredObject } from "../e2e/harness/stored-object.js";
import { runCommand } from "../support/command.js";
import { startEtcd } from "../support/etcd.js";
import { Pkcs11Client } from "../support/pkcs11-client.js";
import { usePlugin } from "../support/plugin-fixture.js";
import type { CommandResult } from "../support/plugin-process.js";
import { makePlainKey } from "../support/softhsm.js";
import { tokenUri } from "../support/token.js";
import { waitFor } from "../support/wait.js";

const SEED = Buffer.alloc(32, 7);
const kms = usePlugin(
  { keys: { refreshInterval: "1s" }, cache: { entries: 0 } },
  {
    token: {},
    prepare: ({ token }) => {
      makePlainKey(token, "kms-kek", "aa");
    },
  },
);

const run = (...args: string[]): Promise<CommandResult> => runCommand(args, kms.token.env);
const keyIds = async (): Promise<string[]> => {
  const response = await fetch(`${kms.own.url}/keys`);
  const { keys } = (await response.json()) as { keys: { keyId: string }[] };
  return keys.map(({ keyId }) => keyId);
};

const readyz = async (): Promise<{ status: number; text: string }> => {
  const response = await fetch(`${kms.own.url}/readyz`);
  return { status: response.status, text: await response.text() };
};

/** Makes a successor, and takes the right to encrypt from the KEK that it retires. */
async function retire(): Promise<void> {
  const child = new Pkcs11Client(kms.token);
  await child.open();
  await child.run(({ p11, module, state }) => {
    state.makeKey({ [p11.CKA_LABEL]: "kms-kek@20260101T000000Z", [p11.CKA_ID]: Buffer.alloc(16, 1) });
    module.C_FindObjectsInit(state.session, [{ type: p11.CKA_ID, value: Buffer.of(0xaa) }]);
    const [key] = module.C_FindObjects(state.session, 1);
    module.C_FindObjectsFinal(state.session);
    if (key === undefined) throw new Error("no KEK");
    const never = [p11.CKA_ENCRYPT, p11.CKA_WRAP].map((type) => ({ type, value: false }));
    module.C_SetAttributeValue(state.session, key, never);
  });
  await child.kill();
}

it("a retired KEK that may no longer encrypt decrypts, and is not destroyed as unused", async () => {
  const stored: KmsCiphertext = await kms.client.encrypt(SEED, "u");
  expect(stored.keyId).toMatch(/^aa\.c/);
  await retire();
  await waitFor(async () => (await keyIds()).includes("aa.n"), { what: "the new key_id", timeoutMs: 30_000 });
  expect(await kms.client.decrypt(stored, "u")).toEqual(SEED);
  expect(kms.plugin.log).toContain("so its key_id has changed");

  await kms.own.stop();
  await kms.own.start();
  expect(await kms.client.decrypt(stored, "u")).toEqual(SEED);
  await waitFor(async () => (await readyz()).text.includes("retired KEK aa.n"), { what: "the finding" });
  expect(await readyz()).toEqual({ status: 200, text: expect.stringMatching(/^ok\n/) as string });
  const checked = await run("check", "--key", tokenUri(kms.token, "kms-kek"));
  expect(checked.stdout).toMatch(/warn +retired key.*aa\.n.*no self-test proves it/);
  expect(checked.stdout).not.toMatch(/performs none of the plugin's mechanisms/);
  const altered = Buffer.from(stored.ciphertext);
  altered[altered.length - 1] = (altered.at(-1) ?? 0) ^ 1;
  await expect(kms.client.decrypt({ ...stored, ciphertext: altered }, "u")).rejects.toThrow(/^NOT_FOUND/);

  const etcd = await startEtcd();
  try {
    const object = { ...stored, provider: "hsm", encryptedData: Buffer.alloc(80), encryptedDekSourceType: 1 };
    const bytes = formatStoredObject({ ...object, encryptedDekSource: stored.ciphertext });
    await etcd.store.put("/registry/secrets/ns/a", bytes);
    const live = ["--endpoints", etcd.endpoint];
    const kek = ["--key", tokenUri(kms.token, "kms-kek")];
    const left = ["--every-node-has-left", "aa.n"];
    const { code, stderr } = await run("keys", "destroy", "aa.n", ...kek, ...live, ...left);
    expect([code, stderr]).toEqual([
      1,
      expect.stringContaining(`1 objects are under ${stored.keyId}, which may be`),
    ]);
    const usage = await run(
      "etcd",
      "usage",
      ...live,
      "--kek",
      tokenUri(kms.token, "kms-kek"),
      "--fail-if-used",
      "aa.n",
    );
    expect([usage.code, usage.stdout]).toEqual([1, expect.stringContaining("may be an earlier key_id")]);
  } finally {
    await etcd.remove();
  }
});
